// Where the log is delivered to, and what could not be delivered.
import { html } from "../ui.js";
import { href } from "../address.js";
import { useGet } from "../api.js";
import { FeedState } from "../feeds.js";
import { number, span, visible } from "../format.js";
import { Answer, Badge, Command, Empty, Facts, Heading, Name, Section, Table, Time } from "../parts.js";

export default function Feeds() {
  const status = useGet("status", {}, { every: 10_000 });
  return html`<${Heading}>Feeds and dead letters<//>
    <${Answer} of=${status} what="the status">${(data) => html`
      <${Section} title="Feeds" id="feeds"><${FeedTable} feeds=${data.feeds} /><//>
      <div class="columns">
        <${Section} title="Forwarding to GitLab" id="gitlab"><${Gitlab} of=${data.gitlab_forwarding} /><//>
        <${Section} title="Incoming notifications" id="incoming"><${Facts} rows=${[
          ["Waiting", number(data.inbox)],
          ["Failing", html`${number(data.inbox_failing)} ${data.inbox_failing > 0 && html`<${Badge} tone="warn">check<//>`}`],
          ["Quarantine", html`${number(data.quarantine)} ${data.quarantine > 0 && html`<${Badge} tone="warn">check<//>`}`],
          ["Behind", span(data.ingest_lag_seconds)],
        ]} />
        ${data.inbox_failing > 0 && html`<${Command} text="indexer inbox list" />`}<//>
      </div>`}<//>`;
}

function FeedTable({ feeds }) {
  if (feeds.length === 0) return html`<${Empty} hint="INDEXER_FEEDS_FILE names the targets: HTTP, Kafka, NATS, syslog or a file.">No feed is configured.<//>`;
  return html`<${Table} caption="Feeds" items=${feeds} by=${(feed) => feed.name} columns=${[
      { title: "Feed", header: true, cell: (feed) => html`<${Name} text=${feed.name} href=${href(["feeds", feed.name])} />` },
      { title: "Kind", cell: (feed) => feed.kind },
      { title: "State", cell: (feed) => html`<${FeedState} of=${feed} />` },
      { title: "Position", number: true, cell: (feed) => number(feed.position) },
      { title: "Behind", number: true, cell: (feed) => html`${number(feed.behind)}${feed.age_seconds ? html` <span class="note">${span(feed.age_seconds)}</span>` : ""}` },
      { title: "Delivered", number: true, cell: (feed) => number(feed.delivered) },
      { title: "Dead letters", number: true, cell: (feed) => (feed.dead > 0 ? html`<a href=${href(["feeds", feed.name])} aria-label=${`Dead letters of ${visible(feed.name)}: ${number(feed.dead)}`}><${Badge} tone="bad">${number(feed.dead)}<//></a>` : "0") },
      { title: "Last delivery", cell: (feed) => html`<${Time} at=${feed.delivered_at} relative />` },
      { title: "Next attempt", cell: (feed) => html`<${Time} at=${feed.retry_at} relative />` },
      { title: "Last error", wide: true, cell: (feed) => (feed.stopped || feed.last_error) && html`<bdi>${visible(feed.stopped || feed.last_error)}</bdi>` },
    ]} />`;
}

function Gitlab({ of }) {
  if (of.waiting + of.dead + of.forwarded + of.dropped === 0) return html`<${Empty} hint="INDEXER_GITLAB_URL and INDEXER_GITLAB_TOKEN turn it on.">Nothing was forwarded.<//>`;
  return html`<${Facts} rows=${[
    ["Forwarded", number(of.forwarded)],
    ["Waiting", html`${number(of.waiting)}${of.age_seconds ? html` <span class="note">the oldest for ${span(of.age_seconds)}</span>` : ""}`],
    ["Dead letters", html`${number(of.dead)} ${of.dead > 0 && html`<${Badge} tone="bad">check<//>`}`],
    ["Dropped", number(of.dropped)],
  ]} />`;
}
