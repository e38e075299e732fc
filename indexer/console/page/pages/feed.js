// One feed: how far it is, and its dead letters, which can be tried again or discarded.
import { html } from "../ui.js";
import { href, pick } from "../address.js";
import { change, path, useGet } from "../api.js";
import { Act, OperatorsOnly, useMayAct } from "../acting.js";
import { FeedState } from "../feeds.js";
import { number, plural, span, visible } from "../format.js";
import { Answer, Badge, Empty, Facts, Heading, Name, Pager, Section, Table, Time } from "../parts.js";

const WHY = [{ name: "reason", label: "Reason, for the audit log", required: true }];

export default function Feed({ params, place }) {
  const mayAct = useMayAct();
  const where = `feeds/${path(params.feed)}`;
  const feed = useGet(where, {}, { every: 10_000 });
  const letters = useGet(feed.data && `${where}/dead-letters`, pick(place.query, ["limit", "after", "before", "count"]));
  const done = () => {
    feed.reload();
    letters.reload();
  };
  return html`<${Heading} crumbs=${[["Feeds", href(["feeds"])]]} actions=${mayAct && feed.data && html`<${Resume} feed=${feed.data} where=${where} done=${done} />`}>Feed <bdi>${visible(params.feed)}</bdi><//>
    <${Answer} of=${feed} what="the feed">${(data) => html`<${State} feed=${data} />
      <${Section} title="Dead letters" id="dead-letters" note="entries that the receiver refused for good; nothing else waits for them">
        <${OperatorsOnly} what="Trying again, discarding or continuing" />
        <${Answer} of=${letters} what="the dead letters" empty=${html`<${Empty}>The receiver refused nothing.<//>`}>${(page) => html`
          ${mayAct && html`<div class="decide"><${RetryAll} feed=${data} where=${where} done=${done} /> <${Discard} letters=${page.items} label=${`Discard the ${number(page.items.length)} shown`} where=${where} done=${done} /></div>`}
          <${Table} caption="Dead letters, in the order of the log" items=${page.items} by=${(each) => each.position} columns=${columns(mayAct, where, done)} />
          <${Pager} place=${place} page=${page} unit="dead letters" total=${data.dead} />`}<//>
      <//>`}<//>`;
}

function State({ feed }) {
  const error = feed.stopped || feed.last_error;
  return html`<${Facts} rows=${[
    ["State", html`<${FeedState} of=${feed} />`],
    ["Kind", feed.kind],
    ["Position", number(feed.position)],
    ["Behind", html`${number(feed.behind)}${feed.age_seconds ? html` <span class="note">the oldest for ${span(feed.age_seconds)}</span>` : ""}`],
    ["Delivered", number(feed.delivered)],
    ["Last delivery", html`<${Time} at=${feed.delivered_at} />`],
    ["Next attempt", feed.retry_at && html`<${Time} at=${feed.retry_at} />`],
    [feed.stopped ? "Stopped because" : "Last error", error && html`<bdi class="wrap">${visible(error)}</bdi>`],
  ]} />`;
}

function columns(mayAct, where, done) {
  const shown = [
    { title: "Position", number: true, header: true, cell: (each) => number(each.position) },
    { title: "Entry", wide: true, cell: (each) => html`<${Entry} of=${each} />` },
    { title: "Attempts", number: true, cell: (each) => number(each.attempts) },
    { title: "First tried", cell: (each) => html`<${Time} at=${each.first_tried_at} />` },
    { title: "Last tried", cell: (each) => html`<${Time} at=${each.tried_at} />` },
    { title: "Last answer", wide: true, cell: (each) => html`<bdi class="wrap">${visible(each.last_error)}</bdi>` },
    { title: "Next", cell: (each) => (each.retry_requested ? html`<${Badge} tone="warn">will be tried again<//>${each.retry_at && html` <${Time} at=${each.retry_at} relative />`}` : html`<span class="none">–</span>`) },
  ];
  if (!mayAct) return shown;
  const act = (each) => html`<span class="nowrap">${!each.retry_requested && html`<${Retry} of=${each} where=${where} done=${done} />`} <${Discard} letters=${[each]} label="Discard" where=${where} done=${done} /></span>`;
  return [...shown, { title: html`<span class="hidden">Act</span>`, cell: act }];
}

function Entry({ of }) {
  if (!of.action) return html`<span class="note">no longer in the log</span>`;
  const name = of.tag ? `${of.repository}:${of.tag}` : of.repository;
  const to = of.tag ? ["repositories", of.repository, "tags", of.tag] : ["repositories", of.repository];
  return html`${of.action}${name && html` <${Name} text=${name} href=${href(to)} />`}`;
}

function Retry({ of, where, done }) {
  return html`<${Act} label="Try again" name=${`Try the dead letter ${of.position} again`} title=${`Try ${number(of.position)} again?`} words="It is sent after what is new. If the receiver takes it, it is no dead letter any more."
    confirm="Try again" said="It will be tried again." done=${done} work=${() => change("POST", `${where}/dead-letters/retry`, { positions: [of.position] })} />`;
}

function RetryAll({ feed, where, done }) {
  return html`<${Act} label="Try all again" title="Try all dead letters again?" words=${`${plural(feed.dead, "entry is", "entries are")} sent after what is new. A feed that has stopped goes on. What the receiver refuses again stays here.`}
    confirm="Try all again" said="They will be tried again." done=${done} work=${() => change("POST", `${where}/dead-letters/retry`, {})} />`;
}

function Discard({ letters, label, where, done }) {
  const positions = letters.map((each) => each.position);
  const what = positions.length === 1 ? `the dead letter ${number(positions[0])}` : `${number(positions.length)} dead letters`;
  return html`<${Act} label=${label} name=${label === "Discard" ? `Discard ${what}` : undefined} title=${`Discard ${what}?`} words="The receiver never gets what is discarded. The entries themselves stay in the audit log."
    fields=${WHY} confirm="Discard" danger said="Discarded." done=${done} work=${({ reason }) => change("POST", `${where}/dead-letters/discard`, { positions, reason })} />`;
}

function Resume({ feed, where, done }) {
  if (!feed.stopped) return null;
  return html`<${Act} label="Continue" name="Continue the feed" title="Continue this feed?" words=${`It goes on after position ${number(feed.position)}. Correct the cause first, or it stops again.`}
    confirm="Continue the feed" said="The feed goes on." done=${done} work=${() => change("POST", `${where}/replay`, {})} />`;
}
