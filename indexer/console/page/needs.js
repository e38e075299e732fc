// What of the status needs a person: worst first. Each says what is wrong, then what to do. Pure.
import { number, plural, span, visible } from "./format.js";

const OLD_RECONCILE_SECONDS = 26 * 3600;
const OLD_INGEST_SECONDS = 300;

export function needs(status) {
  const found = [];
  const add = (tone, title, action, href) => found.push({ tone, title, action, href });
  const proof = status.audit_proof;
  if (proof.damaged > 0) {
    add("bad", `The audit log has ${plural(proof.damaged, "damaged entry", "damaged entries")}.`, "Run indexer audit verify, and keep a copy of the database.", "#/audit");
  }
  for (const conflict of proof.conflicts) {
    add("bad", `Two versions of the audit log: ${visible(conflict.what)}`, `Found at ${visible(conflict.place)}. Run indexer audit verify.`, "#/audit");
  }
  for (const feed of status.feeds) {
    if (feed.stopped) add("bad", `The feed ${visible(feed.name)} stopped: ${visible(feed.stopped)}`, "Correct the cause, then indexer feeds retry.", "#/feeds");
    if (feed.dead > 0) add("bad", `The feed ${visible(feed.name)} has ${plural(feed.dead, "dead letter")}.`, "See indexer feeds dead.", "#/feeds");
  }
  if (status.gitlab_forwarding.dead > 0) {
    add("bad", `${plural(status.gitlab_forwarding.dead, "event")} could not be forwarded to GitLab.`, "See the log of the indexer for the reason.", "#/feeds");
  }
  for (const run of status.trend.slice(0, 1)) {
    if (run.outcome === "braked") {
      add("bad", `The brake stopped the last reconcile: ${plural(run.held_back, "repair")} held back.`, "Check whether the registry is complete, then reconciler once --release-brake.", "#/drift");
    } else if (run.outcome === "incomplete") {
      add("warn", "The last reconcile is incomplete.", "Its undecided parts are listed there.", "#/drift");
    }
  }
  for (const process of receivers(status)) {
    const { loss } = process;
    if (loss.state === "at_most" && loss.lost > 0) {
      add("warn", `Up to ${plural(loss.lost, "notification")} of ${visible(process.address || process.instance_id)} may be lost.`, "A reconcile finds what they changed.", "#/drift");
    }
  }
  if (status.quarantine > 0) {
    add("warn", `${plural(status.quarantine, "delivery", "deliveries")} could not be read.`, "Look at the quarantine: it says why.", "");
  }
  if (status.inbox_failing > 0) {
    add("warn", `${plural(status.inbox_failing, "notification")} cannot be applied.`, "See indexer inbox list.", "");
  }
  if (status.ingest_lag_seconds > OLD_INGEST_SECONDS) {
    add("warn", `The inventory is ${span(status.ingest_lag_seconds)} behind.`, `${number(status.inbox)} notifications wait.`, "");
  }
  const failing = Object.entries(status.backlog).filter(([, backlog]) => backlog.failing > 0);
  for (const [kind, backlog] of failing) {
    add("warn", `${plural(backlog.failing, "work item")} of ${visible(kind)} fail again and again.`, "The log of the reconciler has the reason.", "");
  }
  const age = status.last_reconciled_at && (Date.parse(status.now) - Date.parse(status.last_reconciled_at)) / 1000;
  if (status.last_reconciled_at === null) {
    add("warn", "The registry was never reconciled completely.", "Start reconciler run.", "#/drift");
  } else if (age > OLD_RECONCILE_SECONDS) {
    add("warn", `The last complete reconcile was ${span(age)} ago.`, "Check that reconciler run is running.", "#/drift");
  }
  for (const loop of status.loops) {
    if (loop.outcome === "failed") {
      add("warn", `The loop ${visible(loop.loop)} fails: ${visible(loop.last_error || "see the log")}`, `It runs in ${visible(loop.process)}.`, "");
    }
  }
  return found.sort((one, other) => Number(one.tone !== "bad") - Number(other.tone !== "bad"));
}

// Registry processes: by their own counters, else by the events of an instance whose counters are not read.
export function receivers(status) {
  const counted = new Set(status.processes.map((each) => each.instance_id));
  const heard = status.instances.filter((each) => !counted.has(each.instance_id));
  return [...status.processes.map((each) => ({ ...each, how: "by its counters" })), ...heard.map((each) => ({ ...each, how: "by its events" }))];
}
