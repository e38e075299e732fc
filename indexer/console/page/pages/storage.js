// The registry's storage as it was read last: what cannot be pulled and why, and what the bytes belong to.
import { html } from "../ui.js";
import { go, href, hrefWith, pick } from "../address.js";
import { OperatorsOnly, useMayAct } from "../acting.js";
import { useGet } from "../api.js";
import { number, percent, plural, visible } from "../format.js";
import { AskOfStorage } from "../job.js";
import { Answer, Badge, Command, Digest, Empty, Facts, Filters, Heading, Name, Pager, Section, Size, Table, Time } from "../parts.js";

const FIELDS = [
  { name: "repository", label: "Repository", kind: "text", hint: "team/app" },
  { name: "code", label: "Code", kind: "text", hint: "as in the list" },
  { name: "severity", label: "Severity", kind: "select", options: [["damaged", "damaged"], ["harmless", "harmless"]] },
];
const MOST_TAGS = 5;

export default function Storage({ place }) {
  const storage = useGet("storage");
  const findings = useGet("storage/findings", pick(place.query, [...FIELDS.map((field) => field.name), "limit", "after", "before", "count"]));
  const mayAct = useMayAct();
  const asked = (job) => go(href(["jobs", job.id]));
  const filtered = FIELDS.some((field) => place.query.get(field.name));
  const nothing = filtered ? html`<${Empty} hint="Remove a filter to see more.">No finding matches.<//>` : html`<${Empty}>Nothing wrong is on record.<//>`;
  return html`<${Heading} actions=${mayAct && html`<${AskOfStorage} done=${asked} />`}>Storage<//>
    <${OperatorsOnly} what="Asking for a check of the storage, a plan of a collection, or an import," />
    <${Answer} of=${storage} what="the storage">${(found) => html`<${Checked} of=${found.checked} counts=${found.findings} place=${place} />`}<//>
    <${Section} title="Findings" id="findings" note="of the newest check">
      <${Filters} place=${place} fields=${FIELDS} error=${findings.error} />
      <${Answer} of=${findings} what="the findings" empty=${nothing}>${(page) => html`
        <${Findings} items=${page.items} />
        <${Pager} place=${place} page=${page} unit="findings" />`}<//>
    <//>
    ${storage.data && html`<${Bytes} of=${storage.data.bytes} />
      <${Shares} title="Repositories with the most bytes" id="repositories" items=${storage.data.largest_repositories} linked />
      <${Shares} title="Prefixes with the most bytes" id="prefixes" items=${storage.data.largest_prefixes} />`}`;
}

function Checked({ of, counts, place }) {
  if (!of) return html`<${Empty} hint="It reads the registry's own storage, and changes nothing."><p>The storage was never checked.</p><//><${Command} text="reconciler storage check" />`;
  const byCode = counts.map((each) => html`<li><a href=${hrefWith(place, { code: each.code })}><bdi>${visible(each.code)}</bdi></a> ${number(each.findings)}</li>`);
  return html`<${Facts} rows=${[
    ["Damaged", html`${number(of.damaged)} ${of.damaged > 0 && html`<${Badge} tone="bad">cannot be pulled<//>`}`],
    ["Harmless", number(of.harmless)],
    ["By code", counts.length > 0 && html`<ul class="inline">${byCode}</ul>`],
    ["Checked", html`<${Time} at=${of.checked_at} /> ${of.job && html`<a href=${href(["jobs", of.job])}>job</a>`}`],
    ["Read", `${plural(of.repositories, "repository", "repositories")}, ${plural(of.blobs, "blob")}; the bytes of ${number(of.compared)} were compared with their digests`],
    ["How it is known to be the registry's", html`<bdi>${visible(of.proof)}</bdi>`],
  ]} />`;
}

function Findings({ items }) {
  return html`<${Table} caption="Findings" items=${items} by=${(each) => `${each.code} ${each.path}`} columns=${[
    { title: "What", header: true, wide: true, cell: (each) => html`<${Subject} of=${each} />` },
    { title: "Severity", cell: (each) => html`<${Badge} tone=${each.severity === "damaged" ? "bad" : "plain"}>${each.severity}<//>` },
    { title: "Why", wide: true, cell: (each) => html`<bdi>${visible(each.text)}</bdi> <code class="note">${visible(each.code)}</code>` },
    { title: "What to do", wide: true, cell: (each) => html`<bdi>${visible(each.advice)}</bdi>` },
    { title: "Tags concerned", wide: true, cell: (each) => html`<${Concerned} of=${each} />` },
    { title: "Where", wide: true, cell: (each) => html`<code class="wrap"><bdi>${visible(each.path)}</bdi></code>` },
    { title: "First seen", cell: (each) => html`<${Time} at=${each.first_seen_at} relative />` },
  ]} />`;
}

function Subject({ of }) {
  if (of.repository === null) return html`<${Digest} digest=${of.digest} copy /> <span class="note">no repository needs it</span>`;
  if (of.tag !== null) return html`<${Name} text=${`${of.repository}:${of.tag}`} href=${href(["repositories", of.repository, "tags", of.tag])} />`;
  return html`<${Name} text=${of.repository} href=${href(["repositories", of.repository])} /> <${Digest} digest=${of.digest} copy />`;
}

function Concerned({ of }) {
  if (of.tags_count === 0) return html`<span class="none">–</span>`;
  const shown = of.tags.slice(0, MOST_TAGS);
  const rest = of.tags_count - shown.length;
  return html`<ul class="inline">${shown.map((tag) => html`<li><${Name} text=${tag} href=${href(["repositories", of.repository, "tags", tag])} /></li>`)}</ul>${rest > 0 && ` and ${number(rest)} more`}`;
}

function Bytes({ of }) {
  if (!of) return html`<${Section} title="Bytes" id="bytes"><${Empty}>The bytes were never counted.<//><${Command} text="reconciler storage report" /><//>`;
  const share = (size) => (of.stored_bytes > 0 ? html` <span class="note">${percent(size / of.stored_bytes)}</span>` : "");
  const row = (term, size, note) => [term, html`<${Size} bytes=${size} />${share(size)}${note && html` <span class="note">${note}</span>`}`];
  return html`<${Section} title="Bytes" id="bytes" note=${html`counted <${Time} at=${of.taken_at} relative />`}><${Facts} rows=${[
    ["Stored", html`<${Size} bytes=${of.stored_bytes} /> <span class="note">in ${plural(of.stored_blobs, "blob")}</span>`],
    row("Unreferenced", of.unreferenced_bytes, "the registry's garbage-collect frees it"),
    row("Referenced", of.referenced_bytes, "of which:"),
    row("by a tag", of.tagged_bytes),
    row("by an index that a tag points to", of.children_bytes),
    row("attached to one of these", of.referrers_bytes),
    row("pointed to by a tag in the past", of.old_bytes),
    row("pushed by digest", of.untagged_bytes),
    ["Uploads under way or left", html`<${Size} bytes=${of.upload_bytes} />`],
    ["Links", html`<${Size} bytes=${of.link_bytes} />`],
    ["Files that no registry writes", html`<${Size} bytes=${of.unknown_bytes} />`],
  ]} /><//>`;
}

function Shares({ title, id, items, linked = false }) {
  if (items.length === 0) return null;
  return html`<${Section} title=${title} id=${id}><${Table} caption=${title} items=${items} by=${(each) => each.name} columns=${[
    { title: "Name", header: true, wide: true, cell: (each) => html`<${Name} text=${each.name} href=${linked && href(["repositories", each.name])} />` },
    { title: "Its part", number: true, cell: (each) => html`<${Size} bytes=${each.attributed_bytes} />` },
    { title: "Referenced", number: true, cell: (each) => html`<${Size} bytes=${each.referenced_bytes} />` },
    { title: "Exclusive", number: true, cell: (each) => html`<${Size} bytes=${each.exclusive_bytes} />` },
    { title: "Shared", number: true, cell: (each) => html`<${Size} bytes=${each.shared_bytes} />` },
    { title: "Tags", number: true, cell: (each) => number(each.tags) },
    { title: "Manifests", number: true, cell: (each) => number(each.manifests) },
    { title: "Repositories", number: true, cell: (each) => number(each.repositories) },
  ]} /><//>`;
}
