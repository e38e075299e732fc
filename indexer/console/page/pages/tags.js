// Tags of one repository, or of all of them: every sort and filter of the API, kept in the address.
import { html } from "../ui.js";
import { go, href, hrefWith, pick } from "../address.js";
import { path, useGet } from "../api.js";
import { number, visible } from "../format.js";
import { Answer, Badge, Digest, Empty, Filters, Freshness, Heading, Name, Pager, Platforms, Published, Size, Table, Time } from "../parts.js";
import { WORDS } from "../words.js";

const FIELDS = [
  { name: "name", label: "Name contains", kind: "text", hint: "rc" },
  { name: "name_glob", label: "Name is like", kind: "text", hint: "v1.*" },
  { name: "kind", label: "Kind", kind: "select", options: WORDS.kinds.map((kind) => [kind, kind]) },
  { name: "platform", label: "Platform", kind: "text", hint: "linux/arm64" },
  { name: "published_after", label: "Published after", kind: "text", hint: "7d, 2026-01-31" },
  { name: "published_before", label: "Published before", kind: "text", hint: "30d", more: true },
  { name: "name_prefix", label: "Name begins with", kind: "text", hint: "v", more: true },
  { name: "name_regex", label: "Name matches (regular expression)", kind: "text", hint: "v[0-9.]+", more: true },
  { name: "pushed_by", label: "Pushed by", kind: "text", more: true },
  { name: "digest", label: "Digest", kind: "text", hint: "sha256:…", more: true },
  { name: "size_min", label: "At least", kind: "text", hint: "10MiB", more: true },
  { name: "size_max", label: "At most", kind: "text", hint: "1GiB", more: true },
  { name: "never_pulled", label: "Pulls", kind: "select", options: [["true", "never pulled"], ["false", "pulled"]], more: true },
  { name: "not_pulled_since", label: "Not pulled for", kind: "text", hint: "90d", more: true },
  { name: "not_checked_since", label: "Not checked for", kind: "text", hint: "90d", more: true },
  { name: "pulled_after", label: "Pulled after", kind: "text", hint: "1d", more: true },
  { name: "pulled_before", label: "Pulled before", kind: "text", hint: "30d", more: true },
  { name: "checked_after", label: "Checked after", kind: "text", hint: "1d", more: true },
  { name: "checked_before", label: "Checked before", kind: "text", hint: "30d", more: true },
  { name: "created_after", label: "Built after", kind: "text", hint: "30d", more: true },
  { name: "created_before", label: "Built before", kind: "text", hint: "365d", more: true },
  { name: "artifact_type", label: "Artifact type", kind: "text", more: true },
  { name: "media_type", label: "Media type", kind: "text", more: true },
  { name: "verified", label: "Verified", kind: "select", options: [["true", "verified"], ["false", "not verified"]], more: true },
  { name: "broken", label: "Broken", kind: "select", options: [["true", "broken"], ["false", "readable"]], more: true },
  { name: "in_use", label: "In use", kind: "select", options: [["true", "reported as in use"], ["false", "not reported"]], more: true },
  { name: "expires_before", label: "Expires before", kind: "text", hint: "2026-12-24", more: true },
];
const EVERYWHERE = [
  { name: "repository", label: "Repository", kind: "text", hint: "team/app" },
  { name: "prefix", label: "Repository begins with", kind: "text", hint: "team/", more: true },
];
const ASKED = ["sort", "limit", "after", "before", "count"];
const ORDERS = [
  ["-published_at", "newest first"], ["published_at", "oldest first"],
  ["name", "name, from A"], ["-name", "name, from Z"], ["-semver", "version, highest first"], ["semver", "version, lowest first"],
  ["-size", "largest first"], ["size", "smallest first"],
  ["-last_pulled_at", "last pulled"], ["last_pulled_at", "longest not pulled"],
  ["-first_seen_at", "seen last"], ["first_seen_at", "seen first"], ["-created_at", "built last"], ["created_at", "built first"],
];
// By last check: of one repository only.
const ORDERS_OF_ONE = [...ORDERS, ["-last_checked_at", "last checked"], ["last_checked_at", "longest not checked"]];

export default function Tags({ params, place }) {
  const { repository } = params;
  const fields = repository ? FIELDS : [EVERYWHERE[0], ...FIELDS, EVERYWHERE[1]];
  const query = pick(place.query, [...fields.map((field) => field.name), ...ASKED]);
  if (!query.sort) query.sort = "-published_at";
  const where = repository ? `repositories/${path(repository)}/tags` : "tags";
  const found = useGet(where, query, { repository });
  const alone = useGet(repository ? `repositories/${path(repository)}` : null, {}, { repository });
  const filtered = fields.some((field) => place.query.get(field.name));
  return html`
    ${repository ? html`<${OfRepository} name=${repository} of=${alone} />` : html`<${Heading}>Tags of all repositories<//>`}
    <${Filters} place=${place} fields=${fields} error=${found.error}><${Order} place=${place} current=${query.sort} orders=${repository ? ORDERS_OF_ONE : ORDERS} /><//>
    <${Answer} of=${found} what="the tags" empty=${html`<${Nothing} filtered=${filtered} />`}>${(page) => html`
      <${Table} caption="Tags" place=${place} sort=${query.sort} items=${page.items} by=${(each) => `${each.repository || ""}:${each.name}`} row=${(each) => (each.broken ? "broken" : "")} columns=${columns(repository, page)} />
      <${Pager} place=${place} page=${page} unit="tags" total=${filtered ? undefined : alone.data?.tag_count} />
      <${Freshness} index=${page.index} />`}<//>`;
}

// Columns sort by a click as well; here is every order, of what has no column, too.
function Order({ place, current, orders }) {
  const known = orders.some(([value]) => value === current);
  return html`<label class="field" for="order"><span>Order</span>
    <select id="order" value=${current} onChange=${(change) => go(hrefWith(place, { sort: change.target.value }))}>${!known && html`<option value=${current}>${visible(current)}</option>`}${orders.map(([value, label]) => html`<option value=${value}>${label}</option>`)}</select></label>`;
}

function OfRepository({ name, of }) {
  const data = of.data;
  const compare = href(["compare"], { repository: name, since: "7d" });
  return html`<${Heading} crumbs=${[["Repositories", href(["repositories"])]]} actions=${html`<a class="button" href=${compare}>What changed</a><a class="button" href=${href(["audit"], { repository: name })}>Audit log</a>`}><${Name} text=${name} /><//>
    ${data && html`<p class="summary">${number(data.tag_count)} tags · ${number(data.manifest_count)} manifests · <${Size} bytes=${data.size_bytes} /> · published <${Time} at=${data.last_published_at} relative /> · pulled <${Time} at=${data.last_pulled_at} relative />${!data.pulls_known && html` · <span class="note">the registry does not announce pulls</span>`}</p>`}`;
}

function columns(repository, { index, items }) {
  const expiring = items.some((each) => each.expires);
  const of = (each) => repository || each.repository;
  const name = (each) => html`<${Name} text=${each.name} href=${href(["repositories", of(each), "tags", each.name])} />${each.broken && html` <${Badge} tone="bad" title=${each.broken_reason || ""}>broken<//>`}${!each.verified_at && html` <${Badge} title="Known from an event; not compared with the registry yet.">unverified<//>`}`;
  const found = [
    { title: "Tag", sort: "name", first: "up", header: true, wide: true, cell: name },
    { title: "Digest", cell: (each) => html`<${Digest} digest=${each.digest} href=${each.digest && href(["repositories", of(each), "manifests", each.digest])} copy=${Boolean(repository)} />` },
    { title: "Kind", extra: !repository, cell: (each) => each.kind },
    { title: "Platforms", cell: (each) => html`<${Platforms} platforms=${each.platforms} />` },
    { title: "Size", sort: "size", number: true, cell: (each) => html`<${Size} bytes=${each.size_bytes || null} />` },
    { title: "Published", sort: "published_at", cell: (each) => html`<${Published} at=${each.published_at} source=${each.published_at_source} />` },
    { title: "Built", extra: true, sort: "created_at", cell: (each) => html`<${Time} at=${each.created_at} relative />` },
    { title: "Pulls", number: true, cell: (each) => (index.pulls_known || each.pull_count ? number(each.pull_count) : html`<span class="none" title="The registry does not announce pulls.">?</span>`) },
    { title: "Last pulled", sort: "last_pulled_at", cell: (each) => html`<${Time} at=${each.last_pulled_at} relative />` },
    ...(expiring ? [{ title: "Expires", cell: (each) => html`<${Time} at=${each.expires?.at} relative />` }] : []),
    { title: "Pushed by", extra: !repository || expiring, cell: (each) => (each.pushed_by ? html`<bdi>${visible(each.pushed_by)}</bdi>` : html`<span class="none">–</span>`) },
  ];
  if (repository) return found;
  return [{ title: "Repository", wide: true, cell: (each) => html`<${Name} text=${each.repository} href=${href(["repositories", each.repository])} />` }, ...found];
}

function Nothing({ filtered }) {
  return filtered ? html`<${Empty} hint="Remove a filter to see more.">No tag matches.<//>` : html`<${Empty} hint="It may still hold manifests without a tag.">There is no tag.<//>`;
}
