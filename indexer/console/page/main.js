// The frame: navigation, the page of the address, what a screen reader is told.
import { html, render, useEffect, useLayoutEffect, useRef, useState } from "./ui.js";
import { href, parse } from "./address.js";
import { identity, signOut, useIdentity } from "./api.js";
import { visible } from "./format.js";
import { announce, Empty, Heading, Loading, signInHref } from "./parts.js";
import { find, PAGES, titleOf } from "./pages.js";

const modules = new Map();

function App() {
  const place = usePlace();
  const found = find(place.segments);
  const title = found ? titleOf(found.page, found.params) : "No such page";
  const main = useRef(null);
  useArrival(place, title, main);
  return html`
    <button type="button" class="skip" onClick=${() => main.current.focus()}>Skip to the content</button>
    <header class="top">
      <a class="brand" href="#/"><span class="mark" aria-hidden="true"></span>Registry indexer</a>
      <${Navigation} place=${place} current=${found?.page} />
      <${Who} place=${place} />
    </header>
    <main ref=${main} tabindex="-1">${
      found ? html`<${Page} key=${found.page.path.join("/")} page=${found.page} params=${found.params} place=${place} />` : html`<${NoSuchPage} />`
    }</main>
    <div id="live" class="hidden" aria-live="polite" role="status"></div>`;
}

function usePlace() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const listener = () => setHash(location.hash);
    addEventListener("hashchange", listener);
    return () => removeEventListener("hashchange", listener);
  }, []);
  return parse(hash);
}

// On another page, not on another filter: focus its heading and say its title, as a browser does for a new document.
function useArrival(place, title, main) {
  const page = place.segments.join("/");
  const first = useRef(true);
  useLayoutEffect(() => {
    document.title = `${visible(title)} · Registry indexer`;
    if (first.current) {
      first.current = false;
      return;
    }
    scrollTo(0, 0);
    main.current.focus({ preventScroll: true });
    announce(visible(title));
  }, [page]);
}

function Navigation({ place, current }) {
  const here = current?.within || current?.path[0] || "";
  return html`<nav class="pages" aria-label="Pages"><ul>${PAGES.filter((page) => page.nav).map((page) => {
    const name = page.path[0] || "";
    const active = current && name === here && current.path[0] !== "sign-in";
    return html`<li><a href=${href(page.path)} aria-current=${active ? "page" : undefined}>${page.nav}</a></li>`;
  })}</ul></nav>`;
}

function Who({ place }) {
  useIdentity();
  const who = identity();
  if (place.segments[0] === "sign-in") return html`<div class="who"></div>`;
  if (!who) return html`<div class="who"><a class="button" href=${signInHref()}>Sign in</a></div>`;
  const shown = who.kind === "token" ? "with a token" : html`as <bdi>${visible(who.name)}</bdi>`;
  return html`<div class="who"><span class="signed-in">Signed in ${shown}${who.kind === "operator" && ", operator"}</span><button type="button" onClick=${signOut}>Sign out</button></div>`;
}

function Page({ page, params, place }) {
  const [loaded, setLoaded] = useState(() => modules.get(page) || null);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    if (loaded) return;
    page.load().then(
      (module) => {
        modules.set(page, module.default);
        setLoaded(() => module.default);
      },
      () => setFailed(true),
    );
  }, []);
  if (failed) return html`<${Outdated} />`;
  if (!loaded) return html`<${Loading} />`;
  return html`<${loaded} key=${JSON.stringify(params)} params=${params} place=${place} />`;
}

function Outdated() {
  return html`<${Heading}>This page is of another version<//>
    <${Empty} hint="You will have to sign in again.">The server was updated, or does not answer. Reload the console.<//>
    <p class="centre"><button type="button" onClick=${() => location.reload()}>Reload</button></p>`;
}

function NoSuchPage() {
  return html`<${Heading}>No such page<//><${Empty}>Nothing has this address. The pages are listed above.<//>`;
}

render(html`<${App} />`, document.getElementById("app"));
