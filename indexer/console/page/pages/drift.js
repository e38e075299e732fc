// Drift: what reconciles found to differ from the inventory, why, and the newest runs.
import { html } from "../ui.js";
import { href, hrefWith, pick } from "../address.js";
import { useGet } from "../api.js";
import { number, span, visible } from "../format.js";
import { Answer, Badge, Digest, Empty, Filters, Freshness, Heading, Name, Pager, Section, Table, Time } from "../parts.js";
import { WORDS } from "../words.js";

const words = (name) => name.replaceAll("_", " ");
const FIELDS = [
  { name: "repository", label: "Repository", kind: "text", hint: "team/app" },
  { name: "tag", label: "Tag", kind: "text" },
  { name: "kind", label: "Kind", kind: "select", options: WORDS.drift_kinds.map((each) => [each, words(each)]) },
  { name: "cause", label: "Cause", kind: "select", options: WORDS.drift_causes.map((each) => [each, words(each)]) },
  { name: "repaired", label: "Repaired", kind: "select", options: [["true", "repaired"], ["false", "open"]] },
  { name: "detected_after", label: "Detected after", kind: "text", hint: "7d", more: true },
  { name: "detected_before", label: "Detected before", kind: "text", hint: "1d", more: true },
  { name: "prefix", label: "Repository begins with", kind: "text", hint: "team/", more: true },
  { name: "run", label: "Run", kind: "text", inputmode: "numeric", more: true },
];
const OUTCOMES = { complete: "good", incomplete: "warn", braked: "bad", failed: "bad", interrupted: "warn" };
const CAUSE_TONES = { lost_notification: "warn", out_of_band: "warn", unannounced: "warn", content_removed: "bad", dangling_tag: "bad", unreadable_tag: "bad" };

export default function Drift({ place }) {
  const query = pick(place.query, [...FIELDS.map((field) => field.name), "limit", "after", "before", "count"]);
  const found = useGet("drift", query);
  return html`<${Heading}>Drift and reconciles<//>
    <${Filters} place=${place} fields=${FIELDS} error=${found.error} />
    <${Answer} of=${found} what="drift">${(page) => html`
      <${Section} title="Findings" id="findings">${page.items.length === 0 ? html`<${Empty} hint="The inventory agreed with the registry, or no reconcile has run.">No difference is on record.<//>` : html`<${Findings} items=${page.items} place=${place} /><${Pager} place=${place} page=${page} unit="findings" />`}<//>
      <${Section} title="Newest reconciles" id="runs"><${Runs} runs=${page.runs} place=${place} /><//>
      <${Freshness} index=${page.index} />`}<//>`;
}

function Findings({ items, place }) {
  const tag = (each) => {
    if (!each.repository) return html`<span class="none">–</span>`;
    return each.tag ? html`<${Name} text=${`${each.repository}:${each.tag}`} href=${href(["repositories", each.repository, "tags", each.tag])} />` : html`<${Name} text=${each.repository} href=${href(["repositories", each.repository])} />`;
  };
  return html`<${Table} caption="Findings" items=${items} by=${(each) => each.id} columns=${[
    { title: "Detected", header: true, cell: (each) => html`<${Time} at=${each.detected_at} />` },
    { title: "Kind", cell: (each) => words(each.kind) },
    { title: "What", wide: true, cell: tag },
    { title: "Expected", cell: (each) => html`<${Digest} digest=${each.expected} />` },
    { title: "Found", cell: (each) => html`<${Digest} digest=${each.found} />` },
    { title: "Cause", cell: (each) => html`<${Badge} tone=${CAUSE_TONES[each.cause] || "plain"}>${words(each.cause)}<//>${each.note && html` <span class="note">${visible(each.note)}</span>`}` },
    { title: "Repaired", cell: (each) => (each.repaired_at ? html`<${Time} at=${each.repaired_at} />` : html`<${Badge} tone="warn">open<//>`) },
    { title: "Run", number: true, cell: (each) => (each.run_id === null ? html`<span class="none">–</span>` : html`<a href=${hrefWith(place, { run: each.run_id })}>${each.run_id}</a>`) },
  ]} />`;
}

function Runs({ runs, place }) {
  if (runs.length === 0) return html`<${Empty} hint="reconciler once runs one now.">No reconcile has run yet.<//>`;
  const lasted = (run) => (run.finished_at ? span((Date.parse(run.finished_at) - Date.parse(run.started_at)) / 1000) : "running");
  const undecided = (run) => Object.entries(run.undecided).map(([name, each]) => `${words(name)}: ${each.count}`).join(", ");
  return html`<${Table} caption="Reconciles" items=${runs} by=${(run) => run.id} columns=${[
    { title: "Run", header: true, cell: (run) => html`<a href=${hrefWith(place, { run: run.id })}>${run.id}</a>` },
    { title: "Mode", cell: (run) => run.mode },
    { title: "Outcome", cell: (run) => html`<${Badge} tone=${OUTCOMES[run.outcome] || "plain"}>${run.outcome || "running"}<//>` },
    { title: "Started", cell: (run) => html`<${Time} at=${run.started_at} />` },
    { title: "Took", cell: lasted },
    { title: "Scope", wide: true, cell: (run) => (run.repositories ? html`<bdi>${visible(run.repositories.slice(0, 3).join(", "))}</bdi>${run.repositories.length > 3 && ` and ${run.repositories.length - 3} more`}` : "the whole registry") },
    { title: "Tags", number: true, cell: (run) => number(run.counts.tags) },
    { title: "Findings", number: true, cell: (run) => number(run.findings) },
    { title: "Undecided", cell: (run) => undecided(run) || html`<span class="none">–</span>` },
    { title: "Note", wide: true, cell: (run) => (run.note || run.cause) && html`<bdi>${visible(run.note || words(run.cause))}</bdi>` },
  ]} />`;
}
