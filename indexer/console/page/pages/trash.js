// The trash: the tags that we deleted, until when each can be restored or why it cannot, and restoring it.
import { html } from "../ui.js";
import { go, href, pick } from "../address.js";
import { change, path, useGet } from "../api.js";
import { Act, OperatorsOnly, useMay, useOnce } from "../acting.js";
import { visible } from "../format.js";
import { Answer, Badge, Digest, Empty, Filters, Freshness, Heading, Name, Pager, Table, Time } from "../parts.js";

const FIELDS = [
  { name: "repository", label: "Repository", kind: "text", hint: "team/app" },
  { name: "tag", label: "Tag", kind: "text", hint: "1.0.0" },
  { name: "deleted_by", label: "Deleted by", kind: "text", hint: "a person, or a policy" },
  { name: "deleted_after", label: "Deleted after", kind: "text", hint: "7d, 2026-01-31" },
  { name: "deleted_before", label: "Deleted before", kind: "text", hint: "1d", more: true },
  { name: "job", label: "By the job", kind: "text", more: true },
  { name: "manifests", label: "What", kind: "select", none: "tags", options: [["true", "manifests"]] },
];
const REASON = [{ name: "reason", label: "Reason, for the audit log" }];
const RESTORE = "It is pushed again with everything it needs, and keeps its dates. First each layer is asked for: if one is gone from the registry, nothing is changed.";
const BY_FORCE = "The tag is there by now. It is moved back to what it was, and what it points to now is lost.";
const TONES = { deleted: "plain", put_back: "warn", uncertain: "bad" };

export default function Trash({ place }) {
  const filters = FIELDS.map((field) => field.name);
  const query = pick(place.query, [...filters, "limit", "after", "before", "count"]);
  const one = query.repository?.includes(",") ? undefined : query.repository;
  const found = useGet("trash", query, { repository: one });
  const may = useMay((found.data?.items ?? []).map((each) => each.repository));
  const mayRestore = (each) => may(each.repository, "restore");
  const nothing = filters.some((name) => place.query.get(name))
    ? html`<${Empty} hint="Remove a filter to see more.">No deletion matches.<//>`
    : html`<${Empty} hint="A tag that a policy, a person or GitLab deletes through us is listed here, with its manifests.">The trash is empty.<//>`;
  return html`<${Heading} crumbs=${[["Cleanup", href(["cleanup"])]]}>Trash<//>
    ${!found.data?.items.some(mayRestore) && html`<${OperatorsOnly} what="Restoring a tag" right="push or delete" />`}
    <${Filters} place=${place} fields=${FIELDS} error=${found.error} />
    <${Answer} of=${found} what="the trash" empty=${nothing}>${(page) => html`
      <${Table} caption="Deleted, newest first" items=${page.items} by=${(each) => each.id} columns=${page.items.some(mayRestore) ? [...COLUMNS, restoring(mayRestore)] : COLUMNS} />
      <${Pager} place=${place} page=${page} unit="deletions" />
      <${Freshness} index=${page.index} />`}<//>`;
}

const none = html`<span class="none">–</span>`;

const COLUMNS = [
  { title: "What", header: true, wide: true, cell: (each) => html`<${What} of=${each} />` },
  { title: "Digest", cell: (each) => html`<${Digest} digest=${each.digest} href=${href(["repositories", each.repository, "manifests", each.digest])} copy />` },
  { title: "Deleted", cell: (each) => html`<${Time} at=${each.deleted_at} />` },
  { title: "By", cell: (each) => html`<bdi>${visible(each.deleted_by ?? "erased")}</bdi> <span class="note">${each.source}</span>` },
  { title: "Can be restored", wide: true, cell: (each) => html`<${Restorable} of=${each.restorable} />` },
  { title: "Outcome", cell: (each) => (each.outcome ? html`<${Badge} tone=${TONES[each.outcome] || "plain"}>${visible(each.outcome.replaceAll("_", " "))}<//>` : html`<span class="note" title="It is followed until it is certain that no push was lost.">not certain yet</span>`) },
  { title: "Reason", wide: true, cell: (each) => (each.reason ? html`<bdi class="wrap">${visible(each.reason)}</bdi>` : none) },
  { title: "Job", cell: (each) => (each.job ? html`<a href=${href(["jobs", each.job])} aria-label=${`Job ${each.job}`}>job</a>` : none) },
];

function restoring(may) {
  return { title: html`<span class="hidden">Restore</span>`, cell: (each) => may(each) && html`<${Restore} of=${each} />` };
}

function nameOf(deletion) {
  return deletion.tag ? `${deletion.repository}:${deletion.tag}` : `${deletion.repository}@${deletion.digest}`;
}

function What({ of }) {
  if (of.tag) return html`<${Name} text=${nameOf(of)} href=${href(["repositories", of.repository, "tags", of.tag])} />`;
  return html`<${Name} text=${of.repository} href=${href(["repositories", of.repository])} /> <span class="note">the manifest</span>`;
}

function Restorable({ of }) {
  if (of.possible) return html`<${Badge} tone="good">until<//> <${Time} at=${of.until} />${of.unless && html` <bdi class="note">${visible(of.unless)}</bdi>`}`;
  return html`<${Badge}>no<//> <bdi>${visible(of.because)}</bdi>`;
}

function Restore({ of }) {
  const once = useOnce();
  const { possible, by_force: byForce } = of.restorable;
  if (!possible && !byForce) return null;
  const work = ({ reason }) => {
    const query = { ...(byForce ? { force: "true" } : {}), ...(reason ? { reason } : {}) };
    return change("POST", `trash/${path(of.id)}/restore`, undefined, { query, headers: once.headers(JSON.stringify(query)) });
  };
  const name = visible(nameOf(of));
  return html`<${Act} label=${byForce ? "Restore …" : "Restore"} name=${`Restore ${name}`} title=${html`Restore <bdi>${name}</bdi>?`} words=${byForce ? BY_FORCE : RESTORE} fields=${REASON}
    confirm=${of.tag ? "Restore the tag" : "Restore the manifest"} danger=${byForce} said="The restore is asked for." done=${(job) => go(href(["jobs", job.id]))} work=${work} />`;
}
