// Jobs: what somebody or a policy asked for, how far it is, how it ended. The list is asked for again while it is shown.
import { html } from "../ui.js";
import { href, pick } from "../address.js";
import { useGet } from "../api.js";
import { number, span, visible } from "../format.js";
import { Answer, Badge, Empty, Filters, Freshness, Heading, Name, Pager, Table, Time } from "../parts.js";

const STATES = ["waiting", "running", "paused", "done", "failed", "cancelled"];
const TONES = { running: "good", paused: "warn", failed: "bad" };
const AGAIN_MS = 3000;
const FIELDS = [
  { name: "state", label: "State", kind: "select", options: STATES.map((each) => [each, each]) },
  { name: "kind", label: "Kind", kind: "text", hint: "reconcile" },
  { name: "repository", label: "Repository", kind: "text", hint: "team/app" },
  { name: "asked_by", label: "Asked by", kind: "text" },
];

export default function Jobs({ place }) {
  const query = pick(place.query, [...FIELDS.map((field) => field.name), "limit", "after", "before", "count"]);
  const found = useGet("jobs", query, { every: AGAIN_MS });
  return html`<${Heading}>Jobs<//>
    <${Filters} place=${place} fields=${FIELDS} error=${found.error} />
    <${Answer} of=${found} what="jobs" empty=${html`<${Empty} hint="Jobs are asked for by reconciler, by the API, or by a policy.">No job matches.<//>`}>${(page) => html`
      <${Table} caption="Jobs, newest first" items=${page.items} by=${(job) => job.id} columns=${COLUMNS} />
      <${Pager} place=${place} page=${page} unit="jobs" />
      <${Freshness} index=${page.index} />`}<//>`;
}

const COLUMNS = [
  { title: "Asked", header: true, cell: (job) => html`<${Time} at=${job.created_at} />` },
  { title: "Kind", cell: (job) => html`<bdi>${visible(job.kind)}</bdi>` },
  { title: "State", cell: (job) => html`<${Badge} tone=${TONES[job.state] || "plain"}>${job.state}<//>${job.cancel_asked_at && !job.ended_at && html` <span class="note">to be cancelled</span>`}` },
  { title: "Progress", cell: (job) => html`<${Progress} of=${job.progress} />` },
  { title: "About", wide: true, cell: (job) => html`<${About} repositories=${job.repositories} />` },
  { title: "Asked by", cell: (job) => html`<bdi>${visible(job.asked_by)}</bdi>` },
  { title: "Took", number: true, cell: (job) => (job.started_at ? span((Date.parse(job.ended_at || new Date().toISOString()) - Date.parse(job.started_at)) / 1000) : "–") },
  { title: "Reason, outcome", wide: true, cell: (job) => html`<${Words} job=${job} />` },
];

function Progress({ of }) {
  if (!of) return html`<span class="none">–</span>`;
  const words = `${number(of.done)}${of.total === null ? "" : ` of ${number(of.total)}`} ${visible(of.unit)}`;
  return html`<span class="nowrap">${of.total > 0 && html`<meter class="share" min="0" max=${of.total} value=${of.done} aria-label=${words}></meter> `}${words}</span>`;
}

function About({ repositories }) {
  if (repositories === null) return "the whole registry";
  const shown = repositories.slice(0, 3);
  return html`${shown.map((name, index) => html`${index > 0 && ", "}<${Name} text=${name} href=${href(["repositories", name])} />`)}${repositories.length > 3 && ` and ${number(repositories.length - 3)} more`}`;
}

function Words({ job }) {
  const words = [job.reason, job.error || job.note, job.progress?.message, job.cancelled_by && `cancelled by ${job.cancelled_by}`].filter(Boolean);
  return words.length > 0 ? html`<bdi class="wrap">${visible(words.join(" · "))}</bdi>` : html`<span class="none">–</span>`;
}
