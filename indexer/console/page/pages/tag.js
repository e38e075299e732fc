// One tag: its manifest, what it pointed to and when, what refers to it, how to pull it.
import { html, useState } from "../ui.js";
import { go, href, hrefWith } from "../address.js";
import { change, path, useGet, useRegistryHost } from "../api.js";
import { Act, useMay, useOnce } from "../acting.js";
import { Content, ManifestFacts, TagLinks } from "../content.js";
import { bytes, number, SOURCES, span, visible } from "../format.js";
import { Answer, Badge, Command, Digest, Empty, Expires, Facts, Failed, Heading, Name, Published, Section, Size, Time } from "../parts.js";

export default function Tag({ params, place }) {
  const { repository, tag } = params;
  const where = `repositories/${path(repository)}/tags/${path(tag)}`;
  const found = useGet(where, {}, { repository });
  const history = useGet(`${where}/history`, { limit: 100 }, { repository });
  const mayDelete = useMay(found.data ? [repository] : [])(repository, "delete");
  const crumbs = [["Repositories", href(["repositories"])], [repository, href(["repositories", repository])]];
  const actions = html`<a class="button" href=${href(["compare"], { repository, tag })}>Compare</a><a class="button" href=${href(["cleanup", "now"], { repository, tag })}>Cleanup</a><a class="button" href=${href(["audit"], { repository, tag })}>Audit log</a>${found.data && mayDelete && html`<${Delete} tag=${found.data} where=${where} />`}`;
  const gone = found.error?.status === 404 && history.data?.items.length > 0;
  return html`<${Heading} crumbs=${crumbs} actions=${actions}><span class="prefix"><bdi>${visible(repository)}</bdi>:</span><${Name} text=${tag} /><//>
    ${gone ? html`<${Empty} hint=${html`If we deleted it, it is in the <a href=${href(["trash"], { repository, tag })}>trash</a>.`}>This tag does not exist now.<//>` : html`<${Answer} of=${found} what="this tag">${(data) => html`<${Shown} tag=${data} />`}<//>`}
    <${Section} title="History" id="history" note="every digest it pointed to">
      <${At} place=${place} where=${where} repository=${repository} />
      <${Answer} of=${history} what="its history" empty=${html`<${Empty}>Nothing is on record about its past.<//>`}>${(data) => html`<${Timeline} items=${data.items} repository=${repository} more=${data.next} />`}<//>
    <//>
    ${found.data?.manifest && html`<${Content} repository=${repository} manifest=${found.data.manifest} referrers=${found.data.referrers} />`}`;
}

const REASON = [{ name: "reason", label: "Reason, for the audit log" }];

// Only if the tag still points to what is shown: somebody may push while the question is open.
function Delete({ tag, where }) {
  const once = useOnce();
  const work = ({ reason }) => {
    const query = { digest: tag.digest, ...(reason ? { reason } : {}) };
    return change("DELETE", where, undefined, { query, headers: once.headers(JSON.stringify(query)) });
  };
  const name = visible(`${tag.repository}:${tag.name}`);
  return html`<${Act} label="Delete" name=${`Delete ${name}`} title=${html`Delete <bdi>${name}</bdi>?`} words="Only this tag is deleted, and only if it still points to this digest. Other tags of the digest stay. Its manifests are kept first, so that it can be restored from the trash."
    fields=${REASON} confirm="Delete the tag" danger said="The deletion is asked for." done=${(job) => go(href(["jobs", job.id]))} work=${work} />`;
}

function Shown({ tag }) {
  const host = useRegistryHost();
  const siblings = tag.sibling_tags.filter((each) => each !== tag.name);
  return html`
    ${tag.broken && html`<p class="banner bad">The registry lists this tag and cannot serve it${tag.broken_reason ? `: ${tag.broken_reason}` : ""}.</p>`}
    ${!tag.verified_at && html`<p class="banner">Known from an event only. The reconciler compares it with the registry shortly.</p>`}
    <${Section} title="Now" id="now">
      <${Command} text=${`docker pull ${host}/${tag.repository}:${tag.name}`} what="pull command" />
      <div class="columns">
        <${Facts} rows=${[
          ["Published", html`<${Published} at=${tag.published_at} source=${tag.published_at_source} />${tag.pushed_by && html` by <bdi>${visible(tag.pushed_by)}</bdi>`}`],
          ["First seen", html`<${Time} at=${tag.first_seen_at} />`],
          ["Verified", html`<${Time} at=${tag.verified_at} />`],
          ["Pulls", html`${number(tag.pull_count)}${tag.last_pulled_at ? html`, last <${Time} at=${tag.last_pulled_at} />` : ""}${!tag.pulls_known && html` <span class="note">the registry does not announce pulls</span>`}`],
          ["Expires", tag.expires && html`<${Expires} of=${tag.expires} />, unless something changes`],
          ["Frees if deleted", tag.exclusive_bytes !== null && html`<${Size} bytes=${tag.exclusive_bytes} /> <span class="note">of ${bytes(tag.referenced_bytes)}, once its manifests are unlinked and garbage is collected; counted <${Time} at=${tag.bytes_as_of} relative />${siblings.length > 0 && "; other tags keep it"}</span>`],
          ["Same digest", html`<${TagLinks} repository=${tag.repository} tags=${siblings} />`],
        ]} />
        ${tag.manifest && html`<${ManifestFacts} repository=${tag.repository} manifest=${tag.manifest} />`}
      </div>
    <//>`;
}

// "What did it point to on …": the time is the reader's, the question is asked in UTC.
function At({ place, where, repository }) {
  const at = place.query.get("at");
  const found = useGet(at ? `${where}/history` : null, { at: at || "" }, { repository });
  const [typed, setTyped] = useState(at ? forInput(at) : "");
  const ask = (submit) => {
    submit.preventDefault();
    const time = new Date(typed);
    if (!Number.isNaN(time.getTime())) go(hrefWith(place, { at: time.toISOString() }));
  };
  return html`<form class="filters ask" onSubmit=${ask}><div class="row">
      <label class="field" for="at"><span>What did it point to at</span><input id="at" type="datetime-local" step="1" required value=${typed} onInput=${(input) => setTyped(input.target.value)} /></label>
      <button type="submit">Ask</button>${at && html`<a class="clear" href=${hrefWith(place, { at: null })}>Clear</a>`}
    </div></form>
    ${at && found.error && html`<${Failed} error=${found.error} retry=${found.reload} what="its history" />`}
    ${at && found.data && html`<p class="banner answer" role="status">At <${Time} at=${at} /> ${
      found.data.items.length ? html`it pointed to <${Digest} digest=${found.data.items[0].digest} href=${href(["repositories", repository, "manifests", found.data.items[0].digest])} copy />.` : "it did not exist, as far as is known."
    }</p>`}`;
}

function forInput(at) {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return "";
  return new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

function Timeline({ items, repository, more }) {
  return html`<ol class="timeline">${items.map((each, index) => {
    const next = items[index - 1];
    const gap = next && each.to && each.to !== next.from;
    const lasted = (Date.parse(each.to || new Date().toISOString()) - Date.parse(each.from)) / 1000;
    return html`${gap && html`<li class="gap"><span class="when"></span><span class="what">deleted for ${span((Date.parse(next.from) - Date.parse(each.to)) / 1000)}</span></li>`}
      ${index === 0 && each.to && html`<li class="gap"><span class="when"><${Time} at=${each.to} /></span><span class="what">deleted</span></li>`}
      <li class=${each.to ? "" : "current"}><span class="when"><${Time} at=${each.from} /></span>
      <span class="what"><${Digest} digest=${each.digest} href=${href(["repositories", repository, "manifests", each.digest])} copy />
      ${!each.to && html`<${Badge} tone="good">now<//>`} <span class="note">${each.to ? "for" : "since"} ${span(lasted)}</span>
      ${each.actor && html` <span class="note">by <bdi>${visible(each.actor)}</bdi></span>`}
      ${each.from_source !== "event" && html` <span class="source" title=${(SOURCES[each.from_source] || [])[1]}>${(SOURCES[each.from_source] || [each.from_source])[0]}</span>`}
      ${each.not_before && html` <span class="note">not before <${Time} at=${each.not_before} /></span>`}</span></li>`;
  })}${more && html`<li class="gap"><span class="when"></span><span class="what">older ones are in the <a href=${href(["audit"], { repository })}>audit log</a></span></li>`}</ol>`;
}
