// What every page is made of.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./ui.js";
import { go, href, hrefWith, parse } from "./address.js";
import { Refused, Unreachable } from "./api.js";
import { ago, bytes, local, number, shortDigest, SOURCES, utc, visible } from "./format.js";

// --- values ----------------------------------------------------------------------------------------------

export function Time({ at, relative = false }) {
  if (!at) return html`<span class="none">–</span>`;
  const shown = relative ? ago(at) : local(at);
  const hover = relative ? `${local(at)}\n${utc(at)}` : `${utc(at)}\n${ago(at)}`;
  return html`<time datetime=${at} title=${hover}>${shown}</time>`;
}

export function Published({ at, source }) {
  const [word, meaning] = SOURCES[source] || [source, ""];
  const mark = source === "event" ? null : html`<span class="source" title=${meaning}>${word}</span>`;
  return html`<${Time} at=${at} />${mark}`;
}

// When a policy planned to delete a tag, and which.
export function Expires({ of }) {
  if (!of) return html`<span class="none">–</span>`;
  return html`<${Time} at=${of.at} relative /> <bdi class="note">${visible(of.rule ? `${of.policy}, ${of.rule}` : of.policy)}</bdi>`;
}

export function Name({ text, href: to }) {
  const shown = html`<bdi>${visible(text)}</bdi>`;
  return to ? html`<a class="name" href=${to}>${shown}</a>` : html`<span class="name">${shown}</span>`;
}

export function Digest({ digest, href: to, copy = false }) {
  if (!digest) return html`<span class="none">–</span>`;
  const code = html`<code class="digest" title=${digest}>${shortDigest(digest)}</code>`;
  return html`<span class="nowrap">${to ? html`<a href=${to}>${code}</a>` : code}${copy && html`<${Copy} text=${digest} what="digest" />`}</span>`;
}

export function Size({ bytes: size }) {
  return html`<span title=${size === null || size === undefined ? "" : `${number(size)} bytes`}>${bytes(size)}</span>`;
}

export function Badge({ tone = "plain", children, title }) {
  return html`<span class=${`badge ${tone}`} title=${title}>${children}</span>`;
}

export function Platforms({ platforms, most = 2 }) {
  if (!platforms?.length) return html`<span class="none">–</span>`;
  const shown = platforms.slice(0, most);
  const rest = platforms.slice(most);
  return html`<span class="platforms">${shown.map((each) => html`<span class="chip"><bdi>${visible(each)}</bdi></span>`)}${rest.length > 0 &&
  html`<span class="chip" title=${rest.map(visible).join("\n")}>+${rest.length}</span>`}</span>`;
}

export function Copy({ text, what }) {
  const [done, setDone] = useState(false);
  if (!navigator.clipboard) return null;
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setDone(true);
    announce(`Copied the ${what}.`);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<button type="button" class="copy" onClick=${copy} aria-label=${`Copy the ${what}`} title=${`Copy the ${what}`}>${done ? "copied" : "copy"}</button>`;
}

export function Command({ text, what = "command" }) {
  return html`<div class="command"><code><bdi>${visible(text)}</bdi></code><${Copy} text=${text} what=${what} /></div>`;
}

// --- states ----------------------------------------------------------------------------------------------

export function announce(message) {
  const region = document.getElementById("live");
  if (region) region.textContent = message;
}

export function Empty({ children, hint }) {
  return html`<div class="state"><p>${children}</p>${hint && html`<p class="hint">${hint}</p>`}</div>`;
}

export function Loading({ what = "Loading" }) {
  return html`<div class="state loading" aria-busy="true"><p>${what} …</p></div>`;
}

export function signInHref() {
  return href(["sign-in"], { then: location.hash.startsWith("#/sign-in") ? "" : location.hash.slice(1) });
}

// A refusal in words: what happened, then what to do.
export function Failed({ error, retry, what = "this" }) {
  const [title, words, action] = explain(error, what);
  return html`<div class="state failed" role="alert">
    <p class="title">${title}</p>
    <p>${words}</p>
    ${error.allowed && html`<p class="hint">Accepted: ${visible(error.allowed)}</p>`}
    ${action === "sign-in" && html`<p><a class="button" href=${signInHref()}>Sign in</a></p>`}
    ${action === "retry" && retry && html`<p><button type="button" onClick=${retry}>Try again</button></p>`}
  </div>`;
}

function explain(error, what) {
  if (error instanceof Unreachable) {
    return ["The indexer does not answer", "The network or the server is down. What is shown may be old.", "retry"];
  }
  if (!(error instanceof Refused)) return ["Something went wrong in this page", visible(error.message), "retry"];
  if (error.code === "realm_unavailable") return ["The registry's token server does not answer", "Your sign-in cannot be renewed just now.", "retry"];
  if (error.status === 401) {
    const scope = /scope="([^"]+)"/.exec(error.challenge)?.[1];
    if (/insufficient_scope/.test(error.challenge)) {
      return ["You may not read this", `It needs the right ${scope || "that your token does not grant"}. Ask whoever manages the registry's accounts.`, "sign-in"];
    }
    return ["Sign in to see this", `Reading ${what} needs a token or an account of the registry.`, "sign-in"];
  }
  if (error.status === 403) return ["You may not read this", visible(error.message), "sign-in"];
  if (error.status === 404) {
    return ["Not on record", "It does not exist here, or you may not read it: both look the same on purpose.", "retry"];
  }
  if (error.status === 400) {
    const about = error.parameter ? `${error.parameter}: ` : "";
    return ["This cannot be asked like that", visible(`${about}${error.message}`), ""];
  }
  if (error.status === 503) return ["The server is busy", visible(error.message), "retry"];
  return [`The server answered ${error.status}`, visible(error.message), "retry"];
}

// The states of what was asked for, around what shows it. Old content stays, dimmed, while new is on its way.
export function Answer({ of, what, children, empty }) {
  if (of.error && !of.data) return html`<${Failed} error=${of.error} retry=${of.reload} what=${what} />`;
  if (!of.data) return html`<${Loading} />`;
  const nothing = empty && of.data.items?.length === 0;
  if (nothing && !of.error && (of.data.next || of.data.previous)) return html`<${SearchOn} page=${of.data} nothing=${empty} />`;
  return html`<div class=${of.loading ? "stale" : ""} aria-busy=${of.loading ? "true" : "false"}>
    ${of.error && html`<${Failed} error=${of.error} retry=${of.reload} what=${what} />`}
    ${nothing ? empty : children(of.data)}
  </div>`;
}

// The server searches a long list in steps: a page may be empty and still have a next one. Goes on until something is found.
function SearchOn({ page, nothing }) {
  const place = parse(location.hash);
  const backwards = place.query.has("before");
  const cursor = backwards ? page.previous : page.next;
  useEffect(() => {
    if (cursor) go(hrefWith(place, backwards ? { before: cursor } : { after: cursor }), { replace: true });
  }, [cursor]);
  return cursor ? html`<${Loading} what="Nothing found so far. Searching on" />` : nothing;
}

const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "local";

// --- the frame of a page ---------------------------------------------------------------------------------

export function Heading({ children, crumbs = [], actions }) {
  return html`<div class="heading">
    ${crumbs.length > 0 &&
    html`<nav class="crumbs" aria-label="Breadcrumb"><ol>${crumbs.map(([text, to]) => html`<li><a href=${to}><bdi>${visible(text)}</bdi></a></li>`)}</ol></nav>`}
    <div class="line"><h1 tabindex="-1">${children}</h1>${actions && html`<div class="actions">${actions}</div>`}</div>
  </div>`;
}

export function Section({ title, id, note, children, actions }) {
  return html`<section>
    <div class="line"><h2 id=${id}>${title}</h2>${note && html`<span class="note">${note}</span>`}${actions && html`<div class="actions">${actions}</div>`}</div>
    ${children}
  </section>`;
}

export function Facts({ rows }) {
  const shown = rows.filter(([, value]) => value !== undefined && value !== false);
  return html`<dl class="facts">${shown.map(([term, value]) => html`<div><dt>${term}</dt><dd>${value ?? html`<span class="none">–</span>`}</dd></div>`)}</dl>`;
}

export function Freshness({ index }) {
  if (!index) return null;
  return html`<p class="freshness">Every notification before <${Time} at=${index.as_of} /> is applied.${" "}
    ${index.last_reconciled_at ? html`Reconciled <${Time} at=${index.last_reconciled_at} relative />.` : "Not reconciled yet."}
    ${` Times are those of your zone, ${ZONE}; point at one for UTC.`}
  </p>`;
}

// --- tables ----------------------------------------------------------------------------------------------

// columns: { title, cell(item), sort?, number?, wide?, extra? (only on wide screens), header? }. Sorting is a link, so it can be opened, kept and shared.
export function Table({ caption, columns, items, place, sort, by, row }) {
  const frame = useRef(null);
  useLayoutEffect(() => {
    // Wider than the page: the table scrolls by itself. Otherwise its head stays in view while the page scrolls.
    const fit = () => frame.current?.classList.toggle("scrolls", frame.current.firstChild.offsetWidth > frame.current.clientWidth + 1);
    const watch = new ResizeObserver(fit);
    watch.observe(frame.current);
    fit();
    return () => watch.disconnect();
  }, [items]);
  return html`<div ref=${frame} class="table" role="region" aria-label=${caption} tabindex="0"><table>
    <caption class="hidden">${caption}</caption>
    <thead><tr>${columns.map((column) => html`<${ColumnHead} column=${column} place=${place} sort=${sort} />`)}</tr></thead>
    <tbody>${items.map((item, index) => html`<tr key=${by ? by(item) : index} class=${row ? row(item) : ""}>${columns.map((column) =>
      column.header
        ? html`<th scope="row" class=${classOf(column)}>${column.cell(item)}</th>`
        : html`<td class=${classOf(column)}>${column.cell(item)}</td>`,
    )}</tr>`)}</tbody>
  </table></div>`;
}

function classOf(column) {
  return ["number", "wide", "extra"].filter((name) => column[name]).join(" ");
}

function ColumnHead({ column, place, sort }) {
  if (!column.sort) return html`<th scope="col" class=${classOf(column)}>${column.title}</th>`;
  const down = sort === `-${column.sort}`;
  const up = sort === column.sort;
  const next = down ? column.sort : up ? `-${column.sort}` : `${column.first === "up" ? "" : "-"}${column.sort}`;
  const state = down ? "descending" : up ? "ascending" : "none";
  const arrow = down ? "↓" : up ? "↑" : "";
  return html`<th scope="col" aria-sort=${state} class=${classOf(column)}><a class="sort" href=${hrefWith(place, { sort: next })}>${column.title}<span class="arrow" aria-hidden="true">${arrow}</span></a></th>`;
}

const PAGE_SIZES = ["50", "100", "250", "500"];

export function Pager({ place, page, unit = "items", total }) {
  const before = place.query.has("after") || place.query.has("before");
  const shown = page.items.length;
  const of = page.count ?? total;
  const last = useRef(null);
  useEffect(() => {
    if (last.current !== null && last.current !== page) announce(`${number(shown)} ${unit} shown.`);
    last.current = page;
  }, [page]);
  return html`<nav class="pager" aria-label="Parts of the list">
    <span class="count">${number(shown)} ${shown === 1 && (of ?? 1) === 1 ? singular(unit) : unit}${of !== undefined && of !== null ? ` of ${number(of)}` : ""}</span>
    ${page.count === undefined && html`<a href=${hrefWith(place, { count: "exact", after: place.query.get("after"), before: place.query.get("before") })}>count</a>`}
    <span class="spacer"></span>
    <label>Rows <select aria-label="Rows on a page" value=${place.query.get("limit") || "100"} onChange=${(change) => go(hrefWith(place, { limit: change.target.value === "100" ? "" : change.target.value }))}>${PAGE_SIZES.map((size) => html`<option value=${size}>${size}</option>`)}</select></label>
    <${Turn} to=${before && hrefWith(place, {})} >First<//>
    <${Turn} to=${page.previous && hrefWith(place, { before: page.previous, after: null })} rel="prev">Previous<//>
    <${Turn} to=${page.next && hrefWith(place, { after: page.next, before: null })} rel="next">Next<//>
  </nav>`;
}

function singular(unit) {
  return unit.replace(/ies$/, "y").replace(/s$/, "");
}

function Turn({ to, rel, children }) {
  return to ? html`<a class="button" href=${to} rel=${rel}>${children}</a>` : html`<span class="button off" aria-disabled="true">${children}</span>`;
}

// --- filters ---------------------------------------------------------------------------------------------

// fields: { name, label, kind: "text" | "select", options?, none?, hint?, more? }. `none`: the word for no value. What is typed goes into the address.
export function Filters({ place, fields, error, children }) {
  const active = fields.filter((field) => place.query.get(field.name));
  const more = fields.filter((field) => field.more);
  const clear = hrefWith(place, Object.fromEntries(active.map((field) => [field.name, null])));
  const show = (field) => html`<${Field} key=${field.name} field=${field} place=${place} error=${error} />`;
  const hidden = active.filter((field) => field.more).length;
  const form = useRef(null);
  useEffect(() => {
    // The heads of tables stay below the filters, however many lines these take.
    const watch = new ResizeObserver(([entry]) => document.documentElement.style.setProperty("--filters", `${entry.target.offsetHeight}px`));
    watch.observe(form.current);
    return () => watch.disconnect();
  }, []);
  return html`<form ref=${form} class="filters" role="search" onSubmit=${(submit) => submit.preventDefault()}>
    <div class="row">${fields.filter((field) => !field.more).map(show)}${children}
    ${active.length > 0 && html`<a class="clear" href=${clear}>Clear ${active.length === 1 ? "the filter" : `${active.length} filters`}</a>`}</div>
    ${more.length > 0 && html`<details open=${hidden > 0}><summary>More filters${hidden > 0 ? ` (${hidden} in use)` : ""}</summary><div class="row">${more.map(show)}</div></details>`}
  </form>`;
}

function Field({ field, place, error }) {
  const id = `filter-${field.name}`;
  const current = place.query.get(field.name) || "";
  const wrong = error?.parameter === field.name;
  const set = (value, replace) => go(hrefWith(place, { [field.name]: value.trim() }), { replace });
  const timer = useRef(0);
  const [typed, setTyped] = useState(null);
  useEffect(() => setTyped(null), [current]);
  useEffect(() => () => clearTimeout(timer.current), []);
  if (field.kind === "select") {
    return html`<label class="field" for=${id}><span>${field.label}</span>
      <select id=${id} value=${current} onChange=${(change) => set(change.target.value, false)}>
        <option value="">${field.none || "any"}</option>${field.options.map(([value, label]) => html`<option value=${value}>${label}</option>`)}
      </select></label>`;
  }
  const type = (input) => {
    const value = input.target.value;
    setTyped(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => set(value, true), 350);
  };
  const commit = (change) => {
    clearTimeout(timer.current);
    if (change.target.value.trim() !== current) set(change.target.value, false);
  };
  return html`<label class="field" for=${id}><span>${field.label}</span>
    <input id=${id} type="text" inputmode=${field.inputmode} autocomplete="off" autocapitalize="none" spellcheck=${false} placeholder=${field.hint || ""} value=${typed ?? current} onInput=${type} onChange=${commit} aria-invalid=${wrong ? "true" : undefined} />
  </label>`;
}
