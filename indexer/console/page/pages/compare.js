// Two tags beside each other, or two instants of a repository or of the registry.
import { html, useState } from "../ui.js";
import { go, href, hrefWith, pick } from "../address.js";
import { path, useGet } from "../api.js";
import { bytes, number, visible } from "../format.js";
import { Answer, Badge, Digest, Empty, Filters, Heading, Name, Pager, Platforms, Section, Size, Table, Time } from "../parts.js";

export default function Compare({ place }) {
  return html`<${Heading}>Compare<//>
    <${Section} title="Two tags" id="two-tags"><${TwoTags} place=${place} /><//>
    <${Section} title="Two instants" id="two-instants" note="what changed in between, net"><${Changes} place=${place} /><//>`;
}

// --- two tags --------------------------------------------------------------------------------------------

function TwoTags({ place }) {
  const { repository = "", tag = "", with_repository: other = "", with_tag: second = "" } = Object.fromEntries(place.query);
  const [form, setForm] = useState({ repository, tag, with_repository: other, with_tag: second });
  const submit = (event) => {
    event.preventDefault();
    go(hrefWith(place, form));
  };
  const field = (name, label, hint, required = true) => html`<label class="field" for=${`compare-${name}`}><span>${label}</span><input id=${`compare-${name}`} type="text" autocapitalize="none" spellcheck=${false} placeholder=${hint} required=${required} value=${form[name]} onInput=${(input) => setForm({ ...form, [name]: input.target.value.trim() })} /></label>`;
  return html`<form class="filters" onSubmit=${submit}><div class="row">
      ${field("repository", "Repository", "team/app")}${field("tag", "Tag", "1.0.0")}
      ${field("with_tag", "With the tag", "1.1.0")}${field("with_repository", "Of the repository", "the same", false)}
      <button type="submit">Compare</button></div></form>
    ${repository && tag && second && html`<${Pair} one=${[repository, tag]} two=${[other || repository, second]} />`}`;
}

function Pair({ one, two }) {
  const ask = ([repository, tag]) => useGet(`repositories/${path(repository)}/tags/${path(tag)}`, {}, { repository });
  const left = ask(one);
  const right = ask(two);
  return html`<${Answer} of=${left} what=${one.join(":")}>${(a) => html`<${Answer} of=${right} what=${two.join(":")}>${(b) => html`<${Beside} a=${a} b=${b} />`}<//>`}<//>`;
}

function Beside({ a, b }) {
  const same = a.digest === b.digest;
  const layers = (tag) => tag.manifest?.layers || [];
  const shared = new Set(layers(b).map((layer) => layer.digest));
  const common = layers(a).filter((layer) => shared.has(layer.digest));
  const sum = (list) => list.reduce((total, layer) => total + (layer.size_bytes || 0), 0);
  const rows = [
    ["Digest", (tag) => html`<${Digest} digest=${tag.digest} href=${tag.digest && href(["repositories", tag.repository, "manifests", tag.digest])} copy />`, (tag) => tag.digest],
    ["Kind", (tag) => tag.kind, (tag) => tag.kind],
    ["Media type", (tag) => html`<bdi>${visible(tag.media_type || "–")}</bdi>`, (tag) => tag.media_type],
    ["Size", (tag) => html`<${Size} bytes=${tag.size_bytes || null} />`, (tag) => tag.size_bytes],
    ["Platforms", (tag) => html`<${Platforms} platforms=${tag.platforms} most=${8} />`, (tag) => tag.platforms.join()],
    ["Published", (tag) => html`<${Time} at=${tag.published_at} />`, (tag) => tag.published_at],
    ["Built", (tag) => html`<${Time} at=${tag.created_at} />`, (tag) => tag.created_at],
    ["Pushed by", (tag) => html`<bdi>${visible(tag.pushed_by || "–")}</bdi>`, (tag) => tag.pushed_by],
    ["Layers", (tag) => number(layers(tag).length), (tag) => layers(tag).length],
    ["Config", (tag) => html`<${Digest} digest=${tag.config_digest} />`, (tag) => tag.config_digest],
  ];
  const texts = differing(a.manifest, b.manifest);
  return html`<p class="banner ${same ? "answer" : ""}" role="status">${same ? "Both point to the same manifest." : `They differ. They share ${number(common.length)} of ${number(layers(a).length)} and ${number(layers(b).length)} layers (${bytes(sum(common))}).`}</p>
    <${Table} caption="Two tags compared" items=${rows} row=${([, , value]) => (value(a) === value(b) ? "" : "differs")} columns=${[
      { title: "What", header: true, cell: ([name]) => name },
      { title: html`<${Name} text=${`${a.repository}:${a.name}`} href=${href(["repositories", a.repository, "tags", a.name])} />`, cell: ([, show]) => show(a) },
      { title: html`<${Name} text=${`${b.repository}:${b.name}`} href=${href(["repositories", b.repository, "tags", b.name])} />`, cell: ([, show]) => show(b) },
    ]} />
    ${texts.length > 0 && html`<h3>Labels and annotations that differ</h3><${Table} caption="Labels and annotations that differ" items=${texts} columns=${[
      { title: "Name", header: true, cell: ([name]) => html`<bdi class="wrap">${visible(name)}</bdi>` },
      { title: "First", cell: ([, one]) => html`<bdi class="wrap">${visible(one ?? "–")}</bdi>` },
      { title: "Second", cell: ([, , two]) => html`<bdi class="wrap">${visible(two ?? "–")}</bdi>` },
    ]} />`}`;
}

function differing(one, two) {
  if (!one || !two) return [];
  const first = new Map([...Object.entries(one.labels), ...Object.entries(one.annotations)]);
  const second = new Map([...Object.entries(two.labels), ...Object.entries(two.annotations)]);
  return [...new Set([...first.keys(), ...second.keys()])].filter((name) => first.get(name) !== second.get(name)).map((name) => [name, first.get(name), second.get(name)]);
}

// --- two instants ----------------------------------------------------------------------------------------

const FIELDS = [
  { name: "since", label: "Between", kind: "text", hint: "7d, 2026-01-31, 2026-01-31T12:00:00Z" },
  { name: "until", label: "And", kind: "text", hint: "now" },
  { name: "repository", label: "Repository", kind: "text", hint: "all" },
  { name: "prefix", label: "Repository begins with", kind: "text", hint: "team/" },
];
const TONES = { created: "good", moved: "warn", deleted: "bad" };

function Changes({ place }) {
  const query = pick(place.query, ["since", "until", "repository", "prefix", "limit", "after", "before", "count"]);
  const found = useGet(query.since ? "changes" : null, query, { repository: query.repository });
  const fields = place.query.get("with_tag") ? FIELDS.filter((field) => field.name !== "repository") : FIELDS;
  return html`<${Filters} place=${place} fields=${fields} error=${found.error} />
    ${!query.since && html`<${Empty} hint="A date, a time, or an age: 7d means a week ago.">Say since when.<//>`}
    ${query.since && html`<${Answer} of=${found} what="the changes" empty=${html`<${Empty}>Nothing changed in between.<//>`}>${(page) => html`
      <p class="summary">From <${Time} at=${page.since} /> to <${Time} at=${page.until} /></p>
      <${Table} caption="What changed" items=${page.items} by=${(each) => `${each.repository}:${each.tag}`} columns=${[
        { title: "Tag", header: true, wide: true, cell: (each) => html`<${Name} text=${`${each.repository}:${each.tag}`} href=${href(["repositories", each.repository, "tags", each.tag])} />` },
        { title: "Change", cell: (each) => html`<${Badge} tone=${TONES[each.change]}>${each.change}<//>` },
        { title: "Then", cell: (each) => html`<${Digest} digest=${each.previous_digest} />` },
        { title: "Now", cell: (each) => html`<${Digest} digest=${each.digest} />` },
        { title: "Last change", cell: (each) => html`<${Time} at=${each.at} />` },
        { title: "Actor", cell: (each) => html`<bdi>${visible(each.actor || "–")}</bdi>` },
      ]} />
      <${Pager} place=${place} page=${page} unit="changes" />`}<//>`}`;
}
