// The address: everything a page shows follows from what stands behind the # of the address. Tokens never do.
// #/repositories/team%2Fapp/tags/latest?at=… : one segment for each name, slashes of a name escaped.

export function parse(hash) {
  const text = hash.replace(/^#/, "");
  const [path, query] = divide(text);
  return { segments: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

export function href(segments, query = {}) {
  const path = segments.map(encodeURIComponent).join("/");
  const text = String(query instanceof URLSearchParams ? query : withoutEmpty(query));
  return `#/${path}${text ? `?${text}` : ""}`;
}

// The same page with other parameters; null or "" removes one. A filter or another order begins at the first page.
export function hrefWith(place, changes) {
  const query = new URLSearchParams(place.query);
  if (!("after" in changes) && !("before" in changes)) {
    query.delete("after");
    query.delete("before");
  }
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") query.delete(name);
    else query.set(name, value);
  }
  return href(place.segments, query);
}

export function go(to, { replace = false } = {}) {
  if (replace) {
    history.replaceState(null, "", to);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else if (location.hash !== to) {
    location.hash = to.slice(1);
  }
}

// Parameters that the API takes, out of the address: those of the page, and nothing else.
export function pick(query, names) {
  const found = {};
  for (const name of names) if (query.get(name)) found[name] = query.get(name);
  return found;
}

function divide(text) {
  const at = text.indexOf("?");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function decode(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

function withoutEmpty(query) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") given.set(name, value);
  }
  return given;
}
