// Overview: what needs a person, how fresh everything is, what was lost, what drifted.
import { html } from "../ui.js";
import { useGet } from "../api.js";
import { number, percent, plural, span, visible } from "../format.js";
import { needs, receivers } from "../needs.js";
import { Answer, Badge, Empty, Facts, Heading, Name, Section, Table, Time } from "../parts.js";
import { Trend } from "../trend.js";
import { Entries } from "../entries.js";

export default function Overview() {
  const status = useGet("status", {}, { every: 10_000 });
  const storage = useGet("storage", {}, { every: 60_000 });
  const newest = useGet("audit", { limit: 8 }, { every: 10_000 });
  return html`<${Heading}>Overview<//>
    <${Answer} of=${status} what="the status">${(data) => html`<${Status} status=${data} storage=${storage.data} />`}<//>
    <${Section} title="Newest entries of the audit log" id="newest" actions=${html`<a href="#/audit">all</a>`}>
      <${Answer} of=${newest} what="the audit log" empty=${html`<${Empty} hint="Entries appear with the first notification.">Nothing happened yet.<//>`}>${(data) => html`<${Entries} items=${data.items} caption="Newest entries" />`}<//>
    <//>`;
}

function Status({ status, storage }) {
  return html`
    <${Needs} found=${needs({ ...status, storage })} />
    <div class="tiles">
      <${Tile} label="Repositories" value=${number(status.repositories)} to="#/repositories" />
      <${Tile} label="Tags" value=${number(status.tags)} to="#/tags" />
      <${Tile} label="Manifests" value=${number(status.manifests)} />
      <${Tile} label="Audit entries" value=${number(status.audit_position)} to="#/audit" />
      <${Tile} label="Behind the registry" value=${span(status.ingest_lag_seconds)} note=${`${number(status.inbox)} waiting`} />
      <${Tile} label="Tags verified" value=${percent(status.verification.verified)} note=${status.verification.sampled ? "of a sample" : ""} />
    </div>
    <div class="columns">
      <${Section} title="Freshness" id="freshness"><${Facts} rows=${[
        ["Applied up to", html`<${Time} at=${status.as_of} />`],
        ["Last complete reconcile", html`<${Time} at=${status.last_reconciled_at} relative />`],
        ["Push to verified, median", span(status.verification.push_to_verified.median_seconds)],
        ["Verified within 15 minutes", percent(status.verification.within_15_minutes)],
        ["Verified within 24 hours", percent(status.verification.within_24_hours)],
        ["Broken tags", percent(status.verification.broken)],
        ["Quarantine", number(status.quarantine)],
        ...Object.entries(status.backlog).map(([kind, backlog]) => [`Waiting: ${visible(kind)}`, waiting(backlog)]),
      ]} /><//>
      <${Section} title="Audit log" id="proof" actions=${html`<a href="#/audit">entries</a>`}><${Facts} rows=${[
        ["Not sealed yet", plural(status.unsealed.entries, "entry", "entries")],
        ["Signed up to", html`${number(status.audit_proof.signed_position)} <span class="note"><${Time} at=${status.audit_proof.signed_at} relative /></span>`],
        ["Compared up to", html`${number(status.audit_proof.checked_position)} <span class="note"><${Time} at=${status.audit_proof.checked_at} relative /></span>`],
        ["Checkpoint in the registry", status.audit_proof.pushed_to && html`<bdi>${visible(status.audit_proof.pushed_to)}</bdi>`],
        ["Damaged entries", number(status.audit_proof.damaged)],
      ]} /><//>
    </div>
    <${Section} title="What reconciles changed" id="trend" note="records repaired (bars) and entered for the first time (line), by run" actions=${html`<a href="#/drift">drift</a>`}><${Trend} runs=${status.trend} /><//>
    <${Section} title="Loss, by registry process" id="loss"><${Losses} status=${status} /><//>
    <${Section} title="Background loops" id="loops"><${Loops} loops=${status.loops} /><//>`;
}

function Needs({ found }) {
  if (found.length === 0) return html`<section class="needs calm" aria-label="What needs a person"><p><span class="dot good" aria-hidden="true"></span>Nothing needs a person.</p></section>`;
  return html`<section class="needs" aria-labelledby="needs"><h2 id="needs">${plural(found.length, "thing needs", "things need")} a person</h2>
    <ul>${found.map((each) => html`<li><span class=${`dot ${each.tone}`} aria-hidden="true"></span><div><strong>${each.title}</strong> ${each.action}${each.href && html` <a href=${each.href}>Show</a>`}</div></li>`)}</ul></section>`;
}

function Tile({ label, value, note, to }) {
  const inside = html`<span class="label">${label}</span><span class="value">${value}</span>${note && html`<span class="note">${note}</span>`}`;
  return to ? html`<a class="tile" href=${to}>${inside}</a>` : html`<div class="tile">${inside}</div>`;
}

function waiting(backlog) {
  const late = backlog.due > 0 ? `, ${number(backlog.due)} due` : "";
  return `${number(backlog.waiting)}${late}${backlog.age_seconds ? `, the oldest for ${span(backlog.age_seconds)}` : ""}`;
}

const LOSS = { nothing_lost: ["good", "nothing lost"], at_most: ["warn", "at most"], unknown: ["plain", "unknown"] };

export function LossBadge({ loss }) {
  const [tone, word] = LOSS[loss.state] || ["plain", loss.state];
  if (loss.state === "at_most" && loss.lost === 0) return html`<${Badge} tone="good">nothing lost<//>`;
  return html`<${Badge} tone=${tone} title=${loss.because ? visible(loss.because) : undefined}>${word}${loss.state === "at_most" ? ` ${number(loss.lost)}` : ""}<//>`;
}

function Losses({ status }) {
  const rows = receivers(status);
  if (rows.length === 0) return html`<${Empty} hint="Loss is measured once events arrive, or RECONCILER_REGISTRY_DEBUG_URLS is set.">No registry process is known yet.<//>`;
  return html`<${Table} caption="Loss by registry process" items=${rows} columns=${[
    { title: "Process", header: true, cell: (each) => html`<${Name} text=${each.address || "–"} />` },
    { title: "Instance", cell: (each) => html`<code><bdi>${visible((each.instance_id || "–").slice(0, 13))}</bdi></code>` },
    { title: "Loss", cell: (each) => html`<${LossBadge} loss=${each.loss} />` },
    { title: "Events", number: true, cell: (each) => number(each.events) },
    { title: "Missing", number: true, cell: (each) => number(each.missing) },
    { title: "Measured", cell: (each) => each.how },
    { title: "From", cell: (each) => html`<${Time} at=${each.loss.from} />` },
    { title: "To", cell: (each) => html`<${Time} at=${each.loss.to} relative />` },
  ]} />`;
}

function Loops({ loops }) {
  if (loops.length === 0) return html`<${Empty}>No loop has run yet.<//>`;
  return html`<${Table} caption="Background loops" items=${loops} by=${(each) => `${each.loop} ${each.process}`} columns=${[
    { title: "Loop", header: true, cell: (each) => each.loop },
    { title: "Process", cell: (each) => html`<bdi>${visible(each.process)}</bdi>` },
    { title: "Outcome", cell: (each) => html`<${Badge} tone=${each.outcome === "failed" ? "bad" : each.outcome ? "good" : "plain"}>${each.outcome || "not run yet"}<//>` },
    { title: "Last run", cell: (each) => html`<${Time} at=${each.last_run_at} relative />` },
    { title: "Last good", cell: (each) => html`<${Time} at=${each.last_good_at} relative />` },
    { title: "Error", wide: true, cell: (each) => each.last_error && html`<bdi>${visible(each.last_error)}</bdi>` },
  ]} />`;
}
