// A plan of cleanup: what it comes to, its verdicts with their reasons; approving and rejecting it.
import { html } from "../ui.js";
import { href, pick } from "../address.js";
import { change, path, useGet } from "../api.js";
import { Act, OperatorsOnly, useMayAct } from "../acting.js";
import { bytes, number, plural, visible } from "../format.js";
import { Answer, Badge, Empty, Facts, Filters, Heading, Pager, Section, Time } from "../parts.js";
import { stateOf, totals } from "../plans.js";
import { Outcomes, Verdicts } from "../verdicts.js";

const FIELDS = [
  { name: "repository", label: "Repository", kind: "text", hint: "team/app" },
  { name: "policy", label: "Policy", kind: "text" },
  { name: "decision", label: "Decision", kind: "select", options: [["delete", "delete"], ["hold", "hold"]] },
];
const REASON = [{ name: "reason", label: "Reason, for the audit log" }];

export default function Plan({ params, place }) {
  const where = `cleanup/plans/${path(params.plan)}`;
  const plan = useGet(where);
  const standing = useGet("cleanup/policies");
  const verdicts = useGet(plan.data && `${where}/verdicts`, pick(place.query, [...FIELDS.map((field) => field.name), "limit", "after", "before", "count"]));
  const decided = () => {
    plan.reload();
    standing.reload();
  };
  return html`<${Heading} crumbs=${[["Cleanup", href(["cleanup"])]]}>Plan <code>${visible(params.plan)}</code><//>
    <${Answer} of=${plan} what="the plan">${(found) => html`
      <${Decision} plan=${found} standing=${standing.data} where=${where} decided=${decided} />
      <${Section} title="What each policy comes to" id="outcomes"><${Outcomes} items=${found.policies} /><//>
      <${Section} title="Verdicts" id="verdicts" note="what stays is not kept on record: see What would go now">
        <${Filters} place=${place} fields=${FIELDS} error=${verdicts.error} />
        <${Answer} of=${verdicts} what="the verdicts" empty=${html`<${Empty}>No verdict matches.<//>`}>${(page) => html`
          <${Verdicts} items=${page.items} caption="Verdicts" />
          <${Pager} place=${place} page=${page} unit="verdicts" />`}<//>
      <//>`}<//>`;
}

function Decision({ plan, standing, where, decided }) {
  const mayAct = useMayAct();
  const state = stateOf(plan, standing);
  const sums = totals(plan);
  const about = `${plural(sums.delete, "tag or manifest", "tags and manifests")}, ${bytes(sums.freed)}`;
  const body = ({ reason }) => (reason ? { reason } : {});
  const approve = html`<${Act} label="Approve" title="Approve this plan?" words=${html`It deletes ${about}. Each tag goes when its pending time is over, if nothing changed meanwhile. With a policy in mode <b>enforce</b> this approves every plan under the same policies.`}
    fields=${REASON} confirm="Approve the plan" danger said="The plan is approved." done=${decided} work=${(values) => change("POST", `${where}/approve`, body(values))} />`;
  const reject = html`<${Act} label="Reject" title="Reject this plan?" words="It is never carried out, and approvals of it end. This cannot be taken back; a new plan can be approved."
    fields=${REASON} confirm="Reject the plan" said="The plan is rejected." done=${decided} work=${(values) => change("POST", `${where}/reject`, body(values))} />`;
  const by = (name, at, reason) => html`<bdi>${visible(name)}</bdi>, <${Time} at=${at} />${reason && html`: <bdi class="wrap">${visible(reason)}</bdi>`}`;
  return html`<${Facts} rows=${[
      ["State", html`<${Badge} tone=${state.tone}>${state.word}<//> ${visible(state.why)}`],
      ["Deletes", `${number(sums.delete)} tags and manifests`],
      ["Frees", bytes(sums.freed)],
      ["Holds back", number(sums.hold)],
      ["Made", html`<${Time} at=${plan.made_at} /> by ${plan.asked_by ? html`<bdi>${visible(plan.asked_by)}</bdi>` : "the reconciler"}`],
      ["Last confirmed", html`<${Time} at=${plan.confirmed_at} relative />`],
      ["Approved by", plan.approvals.length > 0 ? html`<ul>${plan.approvals.map((each) => html`<li>${by(each.by, each.at, each.reason)}</li>`)}</ul>` : false],
      ["Rejected by", plan.rejected_at ? by(plan.rejected_by, plan.rejected_at, plan.rejected_because) : false],
    ]} />
    <div class="decide">${mayAct ? html`${state.open && approve} ${!plan.rejected_at && reject}` : html`<${OperatorsOnly} what="Approving or rejecting a plan" />`}</div>`;
}
