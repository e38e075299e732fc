// Holds: what cleanup keeps whatever a policy says; whose each is, and why.
import { html } from "../ui.js";
import { href, pick } from "../address.js";
import { change, path, useGet } from "../api.js";
import { Act, OperatorsOnly, useMayAct } from "../acting.js";
import { visible } from "../format.js";
import { Answer, Digest, Empty, Heading, Name, Pager, Table, Time } from "../parts.js";

const FIELDS = [
  { name: "repository", label: "Repository", hint: "team/app; none: a digest anywhere" },
  { name: "tag", label: "Tag", hint: "none: the whole repository" },
  { name: "digest", label: "Digest", hint: "sha256:…" },
  { name: "reason", label: "Reason", required: true },
  { name: "owner", label: "Whose it is", hint: "default: your name" },
  { name: "until", label: "Until", hint: "14d, 2027-01-31T00:00:00Z; none: until it is removed" },
];

export default function Holds({ place }) {
  const mayAct = useMayAct();
  const found = useGet("holds", pick(place.query, ["limit", "after", "before", "count"]));
  const given = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
  const add = html`<${Act} label="Add a hold" title="Add a hold" words="Cleanup keeps what is on hold at once, whatever a policy says. Name a repository, one of its tags or digests, or a digest alone."
    fields=${FIELDS} confirm="Put on hold" said="The hold is added." done=${found.reload} work=${(values) => change("POST", "holds", given(values))} />`;
  return html`<${Heading} crumbs=${[["Cleanup", href(["cleanup"])]]} actions=${mayAct && add}>Holds<//>
    <${OperatorsOnly} what="Adding or removing a hold" />
    <${Answer} of=${found} what="the holds" empty=${html`<${Empty} hint="A hold keeps a repository, a tag or a digest from cleanup.">Nothing is on hold.<//>`}>${(page) => html`
      <${Table} caption="Holds, oldest first" items=${page.items} by=${(each) => each.id} columns=${columns(mayAct, found.reload)} />
      <${Pager} place=${place} page=${page} unit="holds" />`}<//>`;
}

function columns(mayAct, reload) {
  const shown = [
    { title: "What", header: true, wide: true, cell: (each) => html`<${What} of=${each} />` },
    { title: "Reason", wide: true, cell: (each) => html`<bdi class="wrap">${visible(each.reason)}</bdi>` },
    { title: "Owner", cell: (each) => html`<bdi>${visible(each.owner)}</bdi>` },
    { title: "Until", cell: (each) => (each.until ? html`<${Time} at=${each.until} />` : "it is removed") },
    { title: "Added", cell: (each) => html`<${Time} at=${each.created_at} /> by <bdi>${visible(each.created_by)}</bdi>` },
  ];
  if (!mayAct) return shown;
  const remove = (each) => html`<${Act} label="Remove" name=${`Remove the hold on ${nameOf(each)}`} title="Remove this hold?" words=${`Policies decide on ${nameOf(each)} again, from the next plan on.`}
    confirm="Remove the hold" danger said="The hold is removed." done=${reload} work=${() => change("DELETE", `holds/${path(each.id)}`)} />`;
  return [...shown, { title: html`<span class="hidden">Remove</span>`, cell: remove }];
}

function nameOf(hold) {
  const name = hold.tag ? `${hold.repository}:${hold.tag}` : [hold.repository, hold.digest].filter(Boolean).join("@");
  return visible(name);
}

function What({ of }) {
  if (of.tag) return html`<${Name} text=${`${of.repository}:${of.tag}`} href=${href(["repositories", of.repository, "tags", of.tag])} />`;
  if (!of.repository) return html`<${Digest} digest=${of.digest} /> <span class="note">in any repository</span>`;
  return html`<${Name} text=${of.repository} href=${href(["repositories", of.repository])} />${of.digest ? html` <${Digest} digest=${of.digest} href=${href(["repositories", of.repository, "manifests", of.digest])} />` : html` <span class="note">all of it</span>`}`;
}
