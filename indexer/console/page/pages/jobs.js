// Jobs: what somebody or a policy asked for, how far each is, how it ended. The list is asked for again while it is shown;
// the page of one job follows its events (a browser opens six connections to a server, so not every row can).
import { html, useMemo } from "../ui.js";
import { go, href, pick } from "../address.js";
import { useGet } from "../api.js";
import { OperatorsOnly, useMayAct } from "../acting.js";
import { About, AskForReconcile, Cancel, Progress, State, took, Words } from "../job.js";
import { visible } from "../format.js";
import { Answer, Empty, Filters, Freshness, Heading, Pager, Table, Time } from "../parts.js";
import { WORDS } from "../words.js";

const AGAIN_MS = 3000;
const FIELDS = [
  { name: "state", label: "State", kind: "select", options: WORDS.job_states.map((each) => [each, each]) },
  { name: "kind", label: "Kind", kind: "select", options: WORDS.job_kinds.map((each) => [each, each]) },
  { name: "repository", label: "Repository", kind: "text", hint: "team/app" },
  { name: "asked_by", label: "Asked by", kind: "text" },
];

export default function Jobs({ place }) {
  const query = pick(place.query, [...FIELDS.map((field) => field.name), "limit", "after", "before", "count"]);
  const found = useGet("jobs", query, { every: AGAIN_MS });
  const mayAct = useMayAct();
  const columns = useMemo(() => (mayAct ? [...COLUMNS, { title: html`<span class="hidden">Cancel</span>`, cell: (job) => html`<${Cancel} job=${job} done=${found.reload} />` }] : COLUMNS), [mayAct]);
  const asked = (job) => go(href(["jobs", job.id]));
  return html`<${Heading} actions=${mayAct && html`<${AskForReconcile} done=${asked} />`}>Jobs<//>
    <${OperatorsOnly} what="Asking for a reconcile, or cancelling a job," />
    <${Filters} place=${place} fields=${FIELDS} error=${found.error} />
    <${Answer} of=${found} what="jobs" empty=${html`<${Empty} hint="Jobs are asked for by reconciler, by the API, or by a policy.">No job matches.<//>`}>${(page) => html`
      <${Table} caption="Jobs, newest first" items=${page.items} by=${(job) => job.id} columns=${columns} />
      <${Pager} place=${place} page=${page} unit="jobs" />
      <${Freshness} index=${page.index} />`}<//>`;
}

const COLUMNS = [
  { title: "Asked", header: true, cell: (job) => html`<a href=${href(["jobs", job.id])}><${Time} at=${job.created_at} /></a>` },
  { title: "Kind", cell: (job) => html`<bdi>${visible(job.kind)}</bdi>` },
  { title: "State", cell: (job) => html`<${State} job=${job} />` },
  { title: "Progress", cell: (job) => html`<${Progress} of=${job.progress} />` },
  { title: "About", wide: true, cell: (job) => html`<${About} repositories=${job.repositories} />` },
  { title: "Asked by", cell: (job) => html`<bdi>${visible(job.asked_by)}</bdi>` },
  { title: "Took", number: true, cell: took },
  { title: "Reason, outcome", wide: true, cell: (job) => html`<${Words} job=${job} />` },
];
