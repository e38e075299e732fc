// What we did and of which it is uncertain whether it undid a push; and a person's word that it did not.
import { html } from "../ui.js";
import { href, pick } from "../address.js";
import { change, path, useGet } from "../api.js";
import { Act, OperatorsOnly, useMay } from "../acting.js";
import { visible } from "../format.js";
import { Answer, Digest, Empty, Filters, Heading, Name, Pager, Table, Time } from "../parts.js";

const FIELDS = [
  { name: "repository", label: "Repository", kind: "text", hint: "team/app" },
  { name: "tag", label: "Tag", kind: "text", hint: "1.0.0" },
];
const REASON = [{ name: "reason", label: "How you know, for the audit log" }];
const CONFIRM = "Ask whoever pushes there, or look at what was built at that time. If a push was lost, push it again first. Then manifests of the repository may be deleted again.";
const DONE = { delete: "deleted the tag", unlink: "deleted the manifest", restore: "restored the tag", put_back: "put a push back" };

export default function Uncertain({ place }) {
  const filters = FIELDS.map((field) => field.name);
  const query = pick(place.query, [...filters, "limit", "after", "before", "count"]);
  const one = query.repository?.includes(",") ? undefined : query.repository;
  const found = useGet("cleanup/uncertain", query, { repository: one });
  const may = useMay((found.data?.items ?? []).map((each) => each.repository));
  const mayConfirm = (each) => may(each.repository, "delete");
  const nothing = filters.some((name) => place.query.get(name))
    ? html`<${Empty} hint="Remove a filter to see more.">Nothing that matches is uncertain.<//>`
    : html`<${Empty} hint="A deletion is uncertain if a push may have been lost by it, and nothing says that none was.">Nothing is uncertain.<//>`;
  return html`<${Heading} crumbs=${[["Cleanup", href(["cleanup"])]]}>Uncertain<//>
    <p class="note">A push between <b>since</b> and <b>until</b> may have been undone. As long as anything in a repository is uncertain, no manifest in it is deleted.</p>
    ${!found.data?.items.some(mayConfirm) && html`<${OperatorsOnly} what="Confirming that no push was lost" right="delete" />`}
    <${Filters} place=${place} fields=${FIELDS} error=${found.error} />
    <${Answer} of=${found} what="what is uncertain" empty=${nothing}>${(page) => html`
      <${Table} caption="Uncertain, oldest first" items=${page.items} by=${(each) => each.id} columns=${page.items.some(mayConfirm) ? [...COLUMNS, confirming(mayConfirm, found.reload)] : COLUMNS} />
      <${Pager} place=${place} page=${page} unit="actions" />`}<//>`;
}

const none = html`<span class="none">–</span>`;

const COLUMNS = [
  { title: "What", header: true, wide: true, cell: (each) => html`<${What} of=${each} />` },
  { title: "We", cell: (each) => DONE[each.action] },
  { title: "Digest", cell: (each) => html`<${Digest} digest=${each.digest} href=${href(["repositories", each.repository, "manifests", each.digest])} copy />` },
  { title: "Since", cell: (each) => html`<${Time} at=${each.since} />` },
  { title: "Until", cell: (each) => html`<${Time} at=${each.until} />` },
  { title: "Points to now", cell: (each) => (each.points_to ? html`<${Digest} digest=${each.points_to} />` : none) },
  { title: "Because", wide: true, cell: (each) => (each.because ? html`<bdi class="wrap">${visible(each.because)}</bdi>` : none) },
  { title: "Job", cell: (each) => (each.job ? html`<a href=${href(["jobs", each.job])} aria-label=${`Job ${each.job}`}>job</a>` : none) },
];

function confirming(may, reload) {
  const cell = (each) => may(each) && html`<${Act} label="Confirm" name=${`Confirm ${nameOf(each)}`} title=${html`No push of <bdi>${nameOf(each)}</bdi> was lost?`} words=${CONFIRM} fields=${REASON}
    confirm="No push was lost" danger said="It is confirmed." done=${reload} work=${({ reason }) => change("POST", `cleanup/uncertain/${path(each.id)}/confirm`, reason ? { reason } : {})} />`;
  return { title: html`<span class="hidden">Confirm</span>`, cell };
}

function nameOf(each) {
  return visible(each.tag ? `${each.repository}:${each.tag}` : `${each.repository}@${each.digest}`);
}

function What({ of }) {
  if (of.tag) return html`<${Name} text=${`${of.repository}:${of.tag}`} href=${href(["repositories", of.repository, "tags", of.tag])} />`;
  return html`<${Name} text=${of.repository} href=${href(["repositories", of.repository])} /> <span class="note">the manifest</span>`;
}
