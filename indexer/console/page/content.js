// What a manifest holds: config, layers, children, annotations, labels, referrers.
import { html } from "./ui.js";
import { href } from "./address.js";
import { number, plural, visible } from "./format.js";
import { Badge, Digest, Empty, Facts, Name, Platforms, Section, Size, Table, Time } from "./parts.js";

export function Content({ repository, manifest, referrers }) {
  const to = (digest) => href(["repositories", repository, "manifests", digest]);
  return html`
    <${Warnings} manifest=${manifest} />
    ${manifest.children.length > 0 && html`<${Section} title="Platforms" id="children" note=${plural(manifest.children.length, "child", "children")}><${Children} items=${manifest.children} to=${to} /><//>`}
    ${(manifest.layers.length > 0 || manifest.config) && html`<${Section} title="Layers" id="layers" note=${plural(manifest.layers.length, "layer")}><${Layers} manifest=${manifest} /><//>`}
    <${Section} title="Referrers" id="referrers" note=${plural(referrers.length, "referrer")}><${Referrers} items=${referrers} to=${to} /><//>
    <${Texts} title="Labels" id="labels" values=${manifest.labels} />
    <${Texts} title="Annotations" id="annotations" values=${manifest.annotations} />`;
}

export function ManifestFacts({ repository, manifest }) {
  const to = (digest) => href(["repositories", repository, "manifests", digest]);
  return html`<${Facts} rows=${[
    ["Digest", html`<code class="wrap">${manifest.digest}</code>`],
    ["Media type", manifest.media_type && html`<bdi>${visible(manifest.media_type)}</bdi>`],
    ["Artifact type", manifest.artifact_type ? html`<bdi>${visible(manifest.artifact_type)}</bdi>` : false],
    ["Kind", manifest.kind],
    ["Size", html`<${Size} bytes=${manifest.total_size_bytes || null} />`],
    ["Platforms", html`<${Platforms} platforms=${manifest.platforms} most=${12} />`],
    ["Built", html`<${Time} at=${manifest.created_at} /> <span class="note">says the image config</span>`],
    ["Pushed", html`<${Time} at=${manifest.pushed_at} />${manifest.pushed_by && html` by <bdi>${visible(manifest.pushed_by)}</bdi>`}`],
    ["Pulls", html`${number(manifest.pull_count)}, last <${Time} at=${manifest.last_pulled_at} />`],
    ["Last checked", html`<${Time} at=${manifest.last_checked_at} />`],
    ["Refers to", manifest.subject ? html`<${Digest} digest=${manifest.subject} href=${to(manifest.subject)} />` : false],
    ["Part of", manifest.parents.length > 0 ? html`${manifest.parents.map((each) => html`<${Digest} digest=${each} href=${to(each)} /> `)}` : false],
  ]} />`;
}

function Warnings({ manifest }) {
  const found = [];
  if (!manifest.held) found.push("The repository does not hold this manifest any more.");
  if (manifest.content === "announced") found.push("Its content has not been read yet.");
  if (manifest.content === "unreadable") found.push("Its content cannot be read: it is no JSON, or could be two kinds of manifest.");
  if (manifest.unread.length > 0) found.push(`Parts could not be read: ${manifest.unread.map(visible).join(", ")}.`);
  if (manifest.left_out.length > 0) found.push(`Too much to show here: ${manifest.left_out.join(", ")}.`);
  return found.map((each) => html`<p class="banner warn">${each}</p>`);
}

function Children({ items, to }) {
  return html`<${Table} caption="Children" items=${items} columns=${[
    { title: "Platform", header: true, cell: (each) => html`<bdi>${visible(each.platform || each.platforms[0] || "–")}</bdi>${each.os_version && html` <span class="note">${visible(each.os_version)}</span>`}` },
    { title: "Digest", cell: (each) => html`<${Digest} digest=${each.digest} href=${to(each.digest)} copy />` },
    { title: "Kind", cell: (each) => each.kind },
    { title: "Size", number: true, cell: (each) => html`<${Size} bytes=${each.total_size_bytes || null} />` },
    { title: "Held", cell: (each) => (each.held ? "yes" : html`<${Badge} tone="warn" title="The repository does not hold it; shown is what the index states.">no<//>`) },
    { title: "Media type", wide: true, cell: (each) => each.media_type && html`<bdi>${visible(each.media_type)}</bdi>` },
  ]} />`;
}

function Layers({ manifest }) {
  const rows = manifest.layers.map((layer, index) => ({ ...layer, what: String(index + 1) }));
  if (manifest.config) rows.unshift({ ...manifest.config, what: "config" });
  const largest = Math.max(1, ...manifest.layers.map((layer) => layer.size_bytes || 0));
  return html`<${Table} caption="Config and layers" items=${rows} columns=${[
    { title: "#", header: true, cell: (each) => each.what },
    { title: "Digest", cell: (each) => html`<${Digest} digest=${each.digest} copy />` },
    { title: "Size", number: true, cell: (each) => html`<${Size} bytes=${each.size_bytes} />` },
    { title: html`<span class="hidden">Share</span>`, cell: (each) => each.what !== "config" && html`<meter class="share" min="0" max=${largest} value=${each.size_bytes || 0} aria-label=${`Size of layer ${each.what} beside the largest`}></meter>` },
    { title: "Media type", wide: true, cell: (each) => each.media_type && html`<bdi>${visible(each.media_type)}</bdi>` },
  ]} />`;
}

function Referrers({ items, to }) {
  if (items.length === 0) return html`<${Empty}>Nothing refers to it: no signature, attestation or SBOM is on record.<//>`;
  return html`<${Table} caption="Referrers" items=${items} columns=${[
    { title: "Digest", header: true, cell: (each) => html`<${Digest} digest=${each.digest} href=${to(each.digest)} copy />` },
    { title: "Kind", cell: (each) => each.kind },
    { title: "Artifact type", wide: true, cell: (each) => html`<bdi>${visible(each.artifact_type || each.media_type || "–")}</bdi>` },
    { title: "Size", number: true, cell: (each) => html`<${Size} bytes=${each.total_size_bytes || null} />` },
    { title: "Pushed", cell: (each) => html`<${Time} at=${each.pushed_at} />` },
    { title: "Annotations", number: true, cell: (each) => number(Object.keys(each.annotations).length) },
  ]} />`;
}

function Texts({ title, id, values }) {
  const rows = Object.entries(values || {});
  if (rows.length === 0) return null;
  return html`<${Section} title=${title} id=${id} note="as whoever pushed it wrote them"><${Table} caption=${title} items=${rows} columns=${[
    { title: "Name", header: true, cell: ([name]) => html`<bdi class="wrap">${visible(name)}</bdi>` },
    { title: "Value", wide: true, cell: ([, value]) => html`<bdi class="wrap">${visible(value)}</bdi>` },
  ]} /><//>`;
}

export function TagLinks({ repository, tags }) {
  if (tags.length === 0) return html`<span class="none">none</span>`;
  return html`<ul class="inline">${tags.map((tag) => html`<li><${Name} text=${tag} href=${href(["repositories", repository, "tags", tag])} /></li>`)}</ul>`;
}
