// What the policies in force would delete now, and why everything else stays. Evaluated when it is asked for, and not kept.
import { html } from "../ui.js";
import { href, hrefWith, pick } from "../address.js";
import { useGet } from "../api.js";
import { Answer, Empty, Filters, Heading, Pager, Section, Time } from "../parts.js";
import { DECISIONS, Outcomes, Verdicts } from "../verdicts.js";

const FIELDS = [
  { name: "repository", label: "Repository", kind: "text", hint: "team/app" },
  { name: "tag", label: "Tag", kind: "text", hint: "1.0.0" },
  { name: "policy", label: "Policy", kind: "text" },
  { name: "decision", label: "Decision", kind: "select", options: DECISIONS.map((each) => [each, each]) },
];

export default function Preview({ place }) {
  const filters = pick(place.query, FIELDS.map((field) => field.name));
  const asked = Object.keys(filters).length > 0;
  const found = useGet(asked ? "cleanup/plan" : null, { limit: "100", ...filters, ...pick(place.query, ["limit", "after"]) });
  const page = (data) => ({ items: data.verdicts, next: data.next === null ? null : String(data.next), previous: null, count: null });
  return html`<${Heading} crumbs=${[["Cleanup", href(["cleanup"])]]}>What would go now<//>
    <${Filters} place=${place} fields=${FIELDS} error=${found.error} />
    ${!asked && html`<${Empty} hint=${html`Or see <a href=${hrefWith(place, { decision: "delete" })}>what would be deleted in all repositories</a>: the server evaluates every policy for that.`}>Name a repository.<//>`}
    ${asked && found.error?.status === 404 && html`<${Empty} hint="INDEXER_POLICIES_FILE names the file.">No policies are in force, so nothing would be deleted.<//>`}
    ${asked && found.error?.status !== 404 && html`<${Answer} of=${found} what="the policies">${(data) => html`
      <p class="summary">Evaluated for <${Time} at=${data.as_of} />. It is not kept, and nothing is deleted by it.</p>
      ${data.verdicts.length === 0 ? html`<${Empty} hint="No policy has the repository, the tag does not exist, or a filter leaves everything out.">No verdict matches.<//>` : html`<${Verdicts} items=${data.verdicts} caption="Verdicts" /><${Pager} place=${place} page=${page(data)} unit="verdicts" />`}
      <${Section} title="What each policy comes to" id="outcomes"><${Outcomes} items=${data.policies} /><//>`}<//>`}`;
}
