// Repositories: counts, size, last publish and pull.
import { html } from "../ui.js";
import { go, href, pick } from "../address.js";
import { seesEverything, useGet } from "../api.js";
import { number } from "../format.js";
import { Answer, Empty, Filters, Freshness, Heading, Name, Pager, Size, Table, Time } from "../parts.js";

const ASKED = ["name", "prefix", "has_tags", "sort", "limit", "after", "before", "count"];
const FIELDS = [
  { name: "name", label: "Name contains", kind: "text", hint: "app" },
  { name: "prefix", label: "Begins with", kind: "text", hint: "team/" },
  { name: "has_tags", label: "Tags", kind: "select", options: [["true", "with tags"], ["false", "without tags"]] },
];

export default function Repositories({ place }) {
  const query = pick(place.query, ASKED);
  const found = useGet("repositories", query);
  const sort = query.sort || "name";
  return html`<${Heading}>Repositories<//>
    <${Filters} place=${place} fields=${FIELDS} error=${found.error} />
    ${!seesEverything() && html`<${ByName} />`}
    <${Answer} of=${found} what="the list of repositories" empty=${html`<${Nothing} filtered=${Object.keys(query).length > 0} />`}>${(page) => html`
      <${Table} caption="Repositories" place=${place} sort=${sort} items=${page.items} by=${(each) => each.name} columns=${COLUMNS} />
      <${Pager} place=${place} page=${page} unit="repositories" />
      <${Freshness} index=${page.index} />`}<//>`;
}

const COLUMNS = [
  { title: "Repository", sort: "name", first: "up", header: true, wide: true, cell: (each) => html`<${Name} text=${each.name} href=${href(["repositories", each.name])} />` },
  { title: "Tags", sort: "tag_count", number: true, cell: (each) => number(each.tag_count) },
  { title: "Manifests", sort: "manifest_count", number: true, cell: (each) => number(each.manifest_count) },
  { title: "Size", sort: "size_bytes", number: true, cell: (each) => html`<${Size} bytes=${each.size_bytes} />` },
  { title: "Last published", sort: "last_published_at", cell: (each) => html`<${Time} at=${each.last_published_at} />` },
  { title: "Last pulled", sort: "last_pulled_at", cell: (each) => html`<${Time} at=${each.last_pulled_at} />` },
  { title: "First seen", sort: "created_at", cell: (each) => html`<${Time} at=${each.created_at} />` },
];

function Nothing({ filtered }) {
  if (!seesEverything()) return html`<${Empty}>None is open yet.<//>`;
  return filtered
    ? html`<${Empty} hint="Remove a filter to see more.">No repository matches.<//>`
    : html`<${Empty} hint="It appears with the first push, or with the first reconcile.">No repository is on record.<//>`;
}

// A user without the right to the catalog can still open what they may pull.
function ByName() {
  const open = (submit) => {
    submit.preventDefault();
    const name = new FormData(submit.target).get("repository").trim();
    if (name) go(href(["repositories", name]));
  };
  return html`<form class="card narrow" onSubmit=${open}>
    <p>Your account may not list all repositories (<code>registry:catalog:*</code>). Below are those that you opened. Open one that you may pull:</p>
    <label class="field" for="repository"><span>Repository</span><input id="repository" name="repository" type="text" autocapitalize="none" spellcheck=${false} placeholder="team/app" required /></label>
    <button type="submit">Open</button>
  </form>`;
}
