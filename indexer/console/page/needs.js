// What of the status needs a person: worst first. Each says what is wrong, then what to do. Pure.
// The status is the answer of /status; its member `storage` that of /storage, or null while that is not known.
// A part of the status has a function here, in PARTS: add({ tone: "bad" | "warn", title, action, href }).
import { href } from "./address.js";
import { number, plural, span, visible } from "./format.js";

const OLD_RECONCILE_SECONDS = 26 * 3600;
const OLD_INGEST_SECONDS = 300;
const OLD_JOB_SECONDS = 900;
const WAITS_FOR_APPROVAL = ["not_approved", "approval_ended"];
const HELD = ["blocked.brake", "weak_evidence"];

const PARTS = [log, damage, deletions, policies, plans, sources, acting, feeds, reconciles, loss, tags, deliveries, work, loops];

export function needs(status) {
  const found = [];
  for (const part of PARTS) part(status, (one) => found.push(one));
  return found.sort((one, other) => Number(one.tone !== "bad") - Number(other.tone !== "bad"));
}

function log({ audit_proof: proof }, add) {
  const to = href(["audit"]);
  if (proof.damaged > 0) add({ tone: "bad", title: `The audit log has ${plural(proof.damaged, "damaged entry", "damaged entries")}.`, action: "Run indexer audit verify, and keep a copy of the database.", href: to });
  for (const conflict of proof.conflicts) {
    add({ tone: "bad", title: `Two versions of the audit log: ${visible(conflict.what)}`, action: `Found at ${visible(conflict.place)}. Run indexer audit verify.`, href: to });
  }
}

function damage({ storage }, add) {
  const damaged = storage?.checked?.damaged ?? 0;
  if (damaged > 0) add({ tone: "bad", title: `${plural(damaged, "thing", "things")} in the registry's storage ${damaged === 1 ? "is" : "are"} damaged.`, action: "Something that was pushed cannot be pulled. The list says what, and what to do.", href: href(["storage"], { severity: "damaged" }) });
}

function deletions({ deletions: found }, add) {
  if (found.on_dummy > 0) {
    add({ tone: "bad", title: `${plural(found.on_dummy, "tag")} may still point to an empty dummy manifest: ${visible(found.examples.join(", "))}.`, action: "A deletion was interrupted. reconciler run finishes it first: check that it is running.", href: href(["trash"]) });
  }
  if (found.uncertain > 0) {
    add({ tone: "bad", title: `${plural(found.uncertain, "tag")} that we changed: it is not known whether a push was lost.`, action: "Compare with what was pushed, then confirm that none was lost.", href: href(["cleanup", "uncertain"]) });
  }
  if (found.put_back_in_the_last_day > 0) {
    add({ tone: "warn", title: `${plural(found.put_back_in_the_last_day, "push", "pushes")} fell between a deletion of ours in the last day, and were put back.`, action: "Nothing is lost. If it happens often, delete when nobody pushes.", href: href(["audit"], { action: "cleanup.put_back" }) });
  }
}

function policies({ policies: found }, add) {
  const to = href(["cleanup"]);
  if (found.differ) add({ tone: "bad", title: `Programs read different policies, and nothing is deleted: ${visible(found.differ)}`, action: "Give every program the same file.", href: to });
  for (const each of found.errors) {
    const where = each.file ? `${visible(each.file)}: ` : "";
    add({ tone: "bad", title: `The policies file is wrong, and not in force: ${where}${visible(each.error)}`, action: "indexer policies check says what would be right.", href: to });
  }
}

// Several policies may wait with one plan.
function plans({ cleanup }, add) {
  const waiting = cleanup.policies.filter((each) => WAITS_FOR_APPROVAL.includes(each.refusal) && each.plan_id && each.delete > 0);
  for (const plan of new Set(waiting.map((each) => each.plan_id))) {
    const own = waiting.filter((each) => each.plan_id === plan);
    const count = own.reduce((sum, each) => sum + each.delete, 0);
    add({ tone: "warn", title: `A plan of cleanup waits for approval: ${plural(count, "tag or manifest goes", "tags and manifests go")} by ${visible(own.map((each) => each.policy).join(", "))}.`, action: "Read its verdicts, then approve or reject it.", href: href(["cleanup", "plans", plan]) });
  }
  for (const each of cleanup.policies.filter((one) => HELD.includes(one.refusal))) {
    const why = each.brake.length > 0 ? each.brake.join("; ") : each.text;
    add({ tone: "warn", title: `Nothing of the policy ${visible(each.policy)} is deleted: ${visible(why)}.`, action: "Check the policy before you change its limits.", href: each.plan_id ? href(["cleanup", "plans", each.plan_id]) : href(["cleanup"]) });
  }
  for (const each of cleanup.policies.filter((one) => one.refusal === "stale")) {
    add({ tone: "warn", title: `The plan of the policy ${visible(each.policy)} was not confirmed for hours, so nothing of it is deleted.`, action: "Check that reconciler run is running.", href: href(["cleanup"]) });
  }
}

function sources({ cleanup }, add) {
  const to = href(["cleanup"]);
  for (const each of cleanup.in_use) {
    const name = visible(each.source);
    if (!each.reported_at) {
      add({ tone: "warn", title: `${name} never reported what it runs, so nothing in its scope is deleted.`, action: "Set up its report, or take it out of the policies.", href: to });
    } else if (each.silent) {
      add({ tone: "warn", title: `${name} does not report what it runs any more.`, action: "Its last report still protects. Where policies name it, nothing in its scope is deleted. Check what reports there.", href: to });
    }
    if (each.waits_for_confirmation) {
      add({ tone: "warn", title: `${name} reports much less than before (${plural(each.suspected_images, "image")}).`, action: "Both reports protect until the new one is confirmed.", href: to });
    }
  }
}

function acting({ acting: { paused, jobs }, now }, add) {
  // A blocked window ends by itself, and policies that cannot be read are named above.
  if (paused?.code === "maintenance") add({ tone: "warn", title: `${visible(paused.text)}.`, action: "When it is over: reconciler maintenance end.", href: href(["jobs"]) });
  for (const each of jobs) {
    const age = (Date.parse(now) - Date.parse(each.since)) / 1000;
    if (each.state === "waiting" && age > OLD_JOB_SECONDS) {
      add({ tone: "warn", title: `${plural(each.jobs, "job")} of the kind ${visible(each.kind)} ${each.jobs === 1 ? "waits" : "wait"}, the oldest for ${span(age)}.`, action: "Its page says why. Check that reconciler run is running.", href: href(["jobs"], { state: "waiting", kind: each.kind }) });
    }
  }
}

function feeds({ feeds: found, gitlab_forwarding: forwarding }, add) {
  for (const feed of found) {
    const to = href(["feeds", feed.name]);
    if (feed.stopped) add({ tone: "bad", title: `The feed ${visible(feed.name)} stopped: ${visible(feed.stopped)}`, action: "Correct the cause, then continue it on its page, or by indexer feeds replay.", href: to });
    if (feed.dead > 0) add({ tone: "bad", title: `The feed ${visible(feed.name)} has ${plural(feed.dead, "dead letter")}.`, action: "Its page says why each was refused. Try them again, or discard them.", href: to });
  }
  if (forwarding.dead > 0) add({ tone: "bad", title: `${plural(forwarding.dead, "event")} could not be forwarded to GitLab.`, action: "See the log of the indexer for the reason.", href: href(["feeds"]) });
}

function reconciles(status, add) {
  const to = href(["drift"]);
  for (const run of status.trend.slice(0, 1)) {
    if (run.outcome === "braked") {
      add({ tone: "bad", title: `The brake stopped the last reconcile: ${plural(run.held_back, "repair")} held back.`, action: "Check whether the registry is complete, then reconciler once --release-brake.", href: to });
    } else if (run.outcome === "incomplete") {
      add({ tone: "warn", title: "The last reconcile is incomplete.", action: "Its undecided parts are listed there.", href: to });
    }
  }
  const age = status.last_reconciled_at && (Date.parse(status.now) - Date.parse(status.last_reconciled_at)) / 1000;
  if (status.last_reconciled_at === null) {
    add({ tone: "warn", title: "The registry was never reconciled completely.", action: "Start reconciler run.", href: to });
  } else if (age > OLD_RECONCILE_SECONDS) {
    add({ tone: "warn", title: `The last complete reconcile was ${span(age)} ago.`, action: "Check that reconciler run is running.", href: to });
  }
}

function loss(status, add) {
  for (const process of receivers(status)) {
    if (process.loss.state === "at_most" && process.loss.lost > 0) {
      add({ tone: "warn", title: `Up to ${plural(process.loss.lost, "notification")} of ${visible(process.address || process.instance_id)} may be lost.`, action: "A reconcile finds what they changed.", href: href(["drift"]) });
    }
  }
}

function tags({ verification }, add) {
  if (verification.broken > 0) add({ tone: "warn", title: "The registry lists tags that it cannot serve.", action: "Push them again, or delete them.", href: href(["tags"], { broken: "true" }) });
}

function deliveries(status, add) {
  if (status.quarantine > 0) add({ tone: "warn", title: `${plural(status.quarantine, "delivery", "deliveries")} could not be read.`, action: "indexer inbox list says why.", href: href(["feeds"]) });
  if (status.inbox_failing > 0) add({ tone: "warn", title: `${plural(status.inbox_failing, "notification")} cannot be applied.`, action: "See indexer inbox list.", href: href(["feeds"]) });
  if (status.ingest_lag_seconds > OLD_INGEST_SECONDS) add({ tone: "warn", title: `The inventory is ${span(status.ingest_lag_seconds)} behind.`, action: `${number(status.inbox)} notifications wait.`, href: href(["feeds"]) });
}

function work(status, add) {
  for (const [kind, backlog] of Object.entries(status.backlog)) {
    if (backlog.failing > 0) add({ tone: "warn", title: `${plural(backlog.failing, "work item")} of ${visible(kind)} fail again and again.`, action: "The log of the reconciler has the reason." });
  }
}

function loops(status, add) {
  for (const loop of status.loops) {
    if (loop.outcome === "failed") add({ tone: "warn", title: `The loop ${visible(loop.loop)} fails: ${visible(loop.last_error || "see the log")}`, action: `It runs in ${visible(loop.process)}.` });
  }
}

// Registry processes: by their own counters, else by the events of an instance whose counters are not read.
export function receivers(status) {
  const counted = new Set(status.processes.map((each) => each.instance_id));
  const heard = status.instances.filter((each) => !counted.has(each.instance_id));
  return [...status.processes.map((each) => ({ ...each, how: "by its counters" })), ...heard.map((each) => ({ ...each, how: "by its events" }))];
}
