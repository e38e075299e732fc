// Cleanup: the policies in force and how each stands, what is planned, the plans on record, who reports what is in use.
import { html } from "../ui.js";
import { href, pick } from "../address.js";
import { useGet } from "../api.js";
import { number, visible } from "../format.js";
import { Answer, Badge, Command, Empty, Facts, Heading, Pager, Section, Size, Table, Time } from "../parts.js";
import { stateOf, totals } from "../plans.js";

const AGAIN_MS = 15_000;

export default function Cleanup({ place }) {
  const standing = useGet("cleanup/policies", {}, { every: AGAIN_MS });
  const plans = useGet(standing.data && "cleanup/plans", pick(place.query, ["limit", "after", "before", "count"]));
  const links = html`<a class="button" href=${href(["cleanup", "now"])}>What would go now</a><a class="button" href=${href(["trash"])}>Trash</a><a class="button" href=${href(["holds"])}>Holds</a><a class="button" href=${href(["cleanup", "uncertain"])}>Uncertain</a>`;
  return html`<${Heading} actions=${links}>Cleanup<//>
    <${Answer} of=${standing} what="cleanup">${(found) => html`
      <${Section} title="Policies in force" id="policies"><${Policies} found=${found} /><//>
      <${Section} title="Plans" id="plans" note="newest first">
        <${Answer} of=${plans} what="the plans" empty=${html`<${Empty} hint="reconciler run makes one when policies come into force, and then every day.">No plan is on record.<//>`}>${(page) => html`
          <${Plans} items=${page.items} standing=${found} />
          <${Pager} place=${place} page=${page} unit="plans" />`}<//>
      <//>
      <${Section} title="Before a policy comes into force" id="before" note="on the command line">
        <p class="note">Why one tag stays or goes; and what policies would have deleted day by day, and what of it was pulled later. Both take the file that INDEXER_POLICIES_FILE names.</p>
        <${Command} text="indexer policies explain REPOSITORY:TAG" />
        <${Command} text="reconciler cleanup replay --since 90d" />
      <//>
      <${Section} title="In use" id="in-use" note="what sources report is kept"><${Sources} items=${found.in_use} /><//>`}<//>`;
}

function Policies({ found }) {
  const { policies, planned } = found;
  const wrong = policies.errors.map((each) => html`<p class="banner bad" role="status"><b>Not in force: </b><bdi class="wrap">${visible([each.file, each.error].filter(Boolean).join(": "))}</bdi></p>`);
  const differ = policies.differ && html`<p class="banner bad" role="status"><b>Nothing is deleted: </b><bdi class="wrap">${visible(policies.differ)}</bdi></p>`;
  if (policies.sha256 === null) return html`${wrong}${differ}<${Empty} hint="INDEXER_POLICIES_FILE names the file.">No policies are in force, so nothing is deleted.<//>`;
  const next = planned.next_run;
  return html`${wrong}${differ}
    <${Facts} rows=${[
      ["In force since", html`<${Time} at=${policies.since} /> <code class="note" title="SHA-256 of the file">${policies.sha256.slice(0, 12)}</code>`],
      ["Planned", html`${number(planned.tags)} tags, ${number(planned.manifests)} manifests${planned.next_due_at && html`; the next from <${Time} at=${planned.next_due_at} /> on`}`],
      ["The next run deletes", `${number(next.tags)} tags, ${number(next.manifests)} manifests`],
    ]} />
    <${Table} caption="Policies" items=${found.cleanup} by=${(each) => each.policy} columns=${[
      { title: "Policy", header: true, cell: (each) => html`<bdi>${visible(each.policy)}</bdi>` },
      { title: "Mode", cell: (each) => visible(each.mode) },
      { title: "State", cell: (each) => (each.acts ? html`<${Badge} tone="good">acts<//>` : html`<${Badge} tone=${each.mode === "preview" ? "plain" : "warn"}>does not act<//>`) },
      { title: "Because", wide: true, cell: (each) => (each.text ? html`<bdi>${visible(each.text)}</bdi>` : html`<span class="none">–</span>`) },
      { title: "Plan", cell: (each) => html`<${PlanLink} id=${each.plan_id} />` },
    ]} />`;
}

function PlanLink({ id }) {
  return id ? html`<a href=${href(["cleanup", "plans", id])}><code>${visible(id)}</code></a>` : html`<span class="none">–</span>`;
}

function Plans({ items, standing }) {
  const state = (plan) => {
    const { word, tone, why } = stateOf(plan, standing);
    return html`<${Badge} tone=${tone} title=${why}>${word}<//>`;
  };
  return html`<${Table} caption="Plans, newest first" items=${items} by=${(plan) => plan.id} columns=${[
    { title: "Plan", header: true, cell: (plan) => html`<${PlanLink} id=${plan.id} />` },
    { title: "Made", cell: (plan) => html`<${Time} at=${plan.made_at} />` },
    { title: "State", cell: state },
    { title: "Delete", number: true, cell: (plan) => number(totals(plan).delete) },
    { title: "Hold", number: true, cell: (plan) => number(totals(plan).hold) },
    { title: "Keep", number: true, cell: (plan) => number(totals(plan).keep) },
    { title: "Frees", number: true, cell: (plan) => html`<${Size} bytes=${totals(plan).freed} />` },
    { title: "Last confirmed", cell: (plan) => html`<${Time} at=${plan.confirmed_at} relative />` },
    { title: "Policies", wide: true, cell: (plan) => html`<bdi>${visible(plan.policies.map((each) => each.id).join(", "))}</bdi>` },
    { title: "Made by", cell: (plan) => (plan.asked_by ? html`<bdi>${visible(plan.asked_by)}</bdi>` : "the reconciler") },
  ]} />`;
}

function Sources({ items }) {
  if (items.length === 0) return html`<${Empty} hint="Clusters and hosts report to PUT /api/v1/in-use/SOURCE.">No source has reported what it runs.<//>`;
  const state = (each) => {
    if (!each.reported_at) return html`<${Badge} tone="bad" title="The policies file names it. Until it reports, nothing in its scope is deleted.">never reported<//>`;
    if (each.silent) return html`<${Badge} tone="bad" title="Its last set protects all the same.">silent<//>`;
    return each.waits_for_confirmation ? html`<${Badge} tone="warn" title="A much smaller set waits until it is confirmed; the old one protects, too.">waits for confirmation<//>` : html`<${Badge} tone="good">reports<//>`;
  };
  return html`<${Table} caption="Sources" items=${items} by=${(each) => each.source} columns=${[
    { title: "Source", header: true, cell: (each) => html`<bdi>${visible(each.source)}</bdi>` },
    { title: "State", cell: state },
    { title: "Images", number: true, cell: (each) => number(each.images) },
    { title: "Reported", cell: (each) => html`<${Time} at=${each.reported_at} relative />` },
    { title: "Valid until", cell: (each) => html`<${Time} at=${each.valid_until} />` },
  ]} />`;
}
