// How a feed is, in a word.
import { html } from "./ui.js";
import { Badge } from "./parts.js";

export function FeedState({ of }) {
  if (of.stopped) return html`<${Badge} tone="bad">stopped<//>`;
  if (of.retry_at) return html`<${Badge} tone="warn">tries again<//>`;
  return of.behind > 0 ? html`<${Badge} tone="plain">behind<//>` : html`<${Badge} tone="good">up to date<//>`;
}
