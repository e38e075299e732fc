// A job in words, following it, cancelling it, and asking for a reconcile or for what reads the storage.
import { html, useEffect, useState } from "./ui.js";
import { href } from "./address.js";
import { change, followJob, get, path, Refused, useIdentity } from "./api.js";
import { Act, useOnce } from "./acting.js";
import { number, span, visible } from "./format.js";
import { Badge, Name } from "./parts.js";

const TONES = { running: "good", paused: "warn", failed: "bad" };
const AGAIN_MS = 3000;
const FIELDS = [
  { name: "repositories", label: "Repositories, separated by commas", hint: "none: the whole registry" },
  { name: "reason", label: "Reason, for the audit log" },
];

export function State({ job }) {
  return html`<${Badge} tone=${TONES[job.state] || "plain"}>${job.state}<//>${job.cancel_asked_at && !job.ended_at && html` <span class="note">to be cancelled</span>`}`;
}

export function Progress({ of }) {
  if (!of) return html`<span class="none">–</span>`;
  const words = `${number(of.done)}${of.total === null ? "" : ` of ${number(of.total)}`} ${visible(of.unit)}`;
  return html`<span class="nowrap">${of.total > 0 && html`<meter class="share" min="0" max=${of.total} value=${of.done} aria-label=${words}></meter> `}${words}</span>`;
}

export function About({ repositories, most = 3 }) {
  if (repositories === null) return "the whole registry";
  const shown = repositories.slice(0, most);
  return html`${shown.map((name, index) => html`${index > 0 && ", "}<${Name} text=${name} href=${href(["repositories", name])} />`)}${repositories.length > most && ` and ${number(repositories.length - most)} more`}`;
}

export function Words({ job }) {
  const words = [job.reason, job.error || job.note, job.progress?.message, job.cancelled_by && `cancelled by ${job.cancelled_by}`].filter(Boolean);
  return words.length > 0 ? html`<bdi class="wrap">${visible(words.join(" · "))}</bdi>` : html`<span class="none">–</span>`;
}

export function took(job) {
  if (!job.started_at) return "–";
  return span((Date.parse(job.ended_at || new Date().toISOString()) - Date.parse(job.started_at)) / 1000);
}

export function Cancel({ job, done }) {
  if (job.ended_at || job.cancel_asked_at) return null;
  return html`<${Act} label="Cancel" name=${`Cancel the job ${job.id}`} title="Cancel this job?" words="It ends as soon as nothing is half done. What it did so far stays done."
    confirm="Cancel the job" danger said="The job is to be cancelled." done=${done} work=${() => change("POST", `jobs/${path(job.id)}/cancel`)} />`;
}

const RECONCILE = {
  kind: "reconcile",
  label: "Ask for a reconcile",
  words: "The registry is compared with the inventory, and the inventory is repaired. The registry is not changed.",
  said: "The reconcile is asked for.",
  by_repository: true,
};
const OF_STORAGE = [
  { kind: "storage-check", label: "Ask for a check of the storage", words: "The registry's storage is read. What cannot be pulled is recorded, and what the bytes belong to. Nothing in it is changed.", said: "The check is asked for." },
  { kind: "gc-plan", label: "Ask for a plan of a collection", words: "It is computed from the storage what the registry's own garbage-collect would delete, and which images it would damage. Nothing is deleted.", said: "The plan is asked for." },
  { kind: "storage-import", label: "Ask for an import", words: "The past of tags, and manifests that no API lists, are read from the storage into the inventory. Nothing that an event said is overruled.", said: "The import is asked for.", by_repository: true },
];

function AskFor({ kind, label, words, said, by_repository = false, done }) {
  const once = useOnce();
  const work = ({ repositories = "", reason }) => {
    const names = repositories.split(",").map((name) => name.trim()).filter(Boolean);
    const body = { kind, params: names.length > 0 ? { repositories: names } : {}, ...(reason ? { reason } : {}) };
    return change("POST", "jobs", body, { headers: once.headers(JSON.stringify(body)) });
  };
  const finished = (job) => {
    once.done();
    done(job);
  };
  return html`<${Act} label=${label} title=${label} words=${words} fields=${by_repository ? FIELDS : FIELDS.slice(1)} confirm="Ask for it" said=${said} done=${finished} work=${work} />`;
}

export function AskForReconcile({ done }) {
  return html`<${AskFor} ...${RECONCILE} done=${done} />`;
}

export function AskOfStorage({ done }) {
  return OF_STORAGE.map((each) => html`<${AskFor} key=${each.kind} ...${each} done=${done} />`);
}

// { data, error, loading, reload, live }: a job by its events. Where no stream can be had, it is asked for again and again.
export function useJob(id) {
  const [state, setState] = useState({ data: null, error: null, live: false });
  const [round, setRound] = useState(0);
  const who = useIdentity();
  useEffect(() => {
    const stop = new AbortController();
    let ended = false;
    const show = (job, live) => {
      ended = job.ended_at !== null;
      setState({ data: job, error: null, live: live && !ended });
    };
    const forever = async () => {
      while (!stop.signal.aborted && !ended) {
        try {
          await followJob(id, { signal: stop.signal, each: ({ data }) => data && show(data, true) }).catch(async (error) => {
            if (stop.signal.aborted || (error instanceof Refused && error.status < 500)) throw error;
            show(await get(`jobs/${path(id)}`, {}, { signal: stop.signal }), false);
          });
        } catch (error) {
          if (stop.signal.aborted) return;
          setState((old) => ({ data: old.data, error, live: false }));
          if (error instanceof Refused && error.status < 500) return;
        }
        if (!ended) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    };
    forever();
    return () => stop.abort();
  }, [id, who && `${who.kind} ${who.name}`, round]);
  return { ...state, loading: false, reload: () => setRound((count) => count + 1) };
}
