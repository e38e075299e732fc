// One manifest of a repository, tagged or not.
import { html } from "../ui.js";
import { href } from "../address.js";
import { path, useGet, useRegistryHost } from "../api.js";
import { Content, ManifestFacts, TagLinks } from "../content.js";
import { shortDigest } from "../format.js";
import { Answer, Command, Facts, Heading, Section } from "../parts.js";

export default function Manifest({ params }) {
  const { repository, digest } = params;
  const host = useRegistryHost();
  const found = useGet(`repositories/${path(repository)}/manifests/${path(digest)}`, {}, { repository });
  const crumbs = [["Repositories", href(["repositories"])], [repository, href(["repositories", repository])]];
  const history = href(["audit"], { repository, digest });
  return html`<${Heading} crumbs=${crumbs} actions=${html`<a class="button" href=${history}>Audit log</a>`}><span class="prefix">Manifest </span><code>${shortDigest(digest)}</code><//>
    <${Answer} of=${found} what="this manifest">${(data) => html`
      <${Section} title="Manifest" id="manifest">
        <${ManifestFacts} repository=${repository} manifest=${data} />
        <${Facts} rows=${[["Tags", html`<${TagLinks} repository=${repository} tags=${data.tags} />`]]} />
        <${Command} text=${`docker pull ${host}/${repository}@${digest}`} what="pull command" />
      <//>
      <${Content} repository=${repository} manifest=${data} referrers=${data.referrers} />`}<//>`;
}
