// One job, as it goes.
import { html } from "../ui.js";
import { href } from "../address.js";
import { OperatorsOnly, useMay } from "../acting.js";
import { About, Cancel, Progress, State, took, useJob } from "../job.js";
import { number, visible, visibleLines } from "../format.js";
import { Answer, Badge, Facts, Heading, Name, Section, Table, Time } from "../parts.js";

const MOST_TAGS = 500;
const GOOD = ["deleted", "restored", "skipped.absent"];

export default function JobPage({ params }) {
  const job = useJob(params.job);
  const repositories = job.data?.repositories ?? [];
  const may = useMay(repositories);
  // Who may ask for a job may cancel it; one of the whole registry takes an operator token.
  const mayCancel = job.data && (repositories.length > 0 ? repositories.every((name) => may(name, job.data.kind)) : may("", job.data.kind));
  const cancel = mayCancel && html`<${Cancel} job=${job.data} done=${() => {}} />`;
  return html`<${Heading} crumbs=${[["Jobs", href(["jobs"])]]} actions=${cancel}>Job <code>${visible(params.job)}</code><//>
    <${Answer} of=${job} what="the job">${(found) => html`<${Shown} job=${found} live=${job.live} />
      ${!found.ended_at && !mayCancel && html`<div class="decide"><${OperatorsOnly} what="Cancelling a job" /></div>`}`}<//>`;
}

function Shown({ job, live }) {
  const text = (value) => (value ? html`<bdi class="wrap">${visible(value)}</bdi>` : false);
  const object = (value) => (value && Object.keys(value).length > 0 ? html`<code class="wrap"><bdi>${visibleLines(JSON.stringify(value, null, 2))}</bdi></code>` : false);
  const { tags, hazards, ...rest } = job.result ?? {};
  const each = Array.isArray(tags) ? tags.slice(0, MOST_TAGS) : [];
  const named = Array.isArray(hazards) ? hazards : [];
  return html`<${Facts} rows=${[
    ["State", html`<span role="status"><${State} job=${job} />${live && html` <${Badge} tone="good">live<//>`}</span>`],
    ["Progress", html`<${Progress} of=${job.progress} /> ${job.progress && html`<bdi class="note">${visible(job.progress.message)}</bdi>`}`],
    ["Does not get on", text(job.note)],
    ["Failed", text(job.error)],
    ["Kind", html`<bdi>${visible(job.kind)}</bdi>`],
    ["About", html`<${About} repositories=${job.repositories} most=${50} />`],
    ["Asked by", html`<bdi>${visible(job.asked_by)}</bdi>, <${Time} at=${job.created_at} />`],
    ["Reason", text(job.reason)],
    ["Started", html`<${Time} at=${job.started_at} />`],
    ["Ended", html`<${Time} at=${job.ended_at} />`],
    ["Took", took(job)],
    ["Cancelled by", text(job.cancelled_by)],
    ["Asked with", object(job.params)],
    ["Result", object(each.length + named.length > 0 ? rest : job.result)],
  ]} />
  ${each.length > 0 && html`<${Section} title="What came of each tag" id="tags" note=${tags.length > MOST_TAGS ? `the first ${MOST_TAGS} of ${number(tags.length)}` : undefined}><${Tags} items=${each} /><//>`}
  ${named.length > 0 && html`<${Section} title="Hazards" id="hazards" note=${rest.left_out > 0 ? `and ${number(rest.left_out)} more` : undefined}><${Hazards} items=${named} /><//>`}`;
}

function Hazards({ items }) {
  return html`<${Table} caption="Hazards" items=${items} columns=${[
    { title: "Code", header: true, cell: (each) => html`<code>${visible(each.code)}</code>` },
    { title: "What it would damage, and what to do", wide: true, cell: (each) => html`<bdi>${visible(each.text)}</bdi>` },
    { title: "Repository", wide: true, cell: (each) => (each.repository ? html`<${Name} text=${each.repository} href=${href(["repositories", each.repository])} />` : html`<span class="none">–</span>`) },
  ]} />`;
}

function Tags({ items }) {
  return html`<${Table} caption="Tags" items=${items} columns=${[
    { title: "Tag", header: true, wide: true, cell: (each) => html`<${Name} text=${`${each.repository}:${each.tag}`} href=${href(["repositories", each.repository, "tags", each.tag])} />` },
    { title: "Outcome", cell: (each) => html`<${Badge} tone=${GOOD.includes(each.outcome) ? "good" : "warn"}>${visible(each.outcome)}<//>` },
    { title: "In words", wide: true, cell: (each) => html`<bdi>${visible(each.text)}</bdi>` },
  ]} />`;
}
