// Plans of cleanup: their state in a word, and what may be done with them. Pure.

const OTHER = "Other policies are in force than it was made with, so it is never carried out.";
const WAITS = ["not_approved", "approval_ended"];

// { word, tone, why, open }: `open` says that approving it may be asked for. `standing`: the body of /cleanup/policies.
export function stateOf(plan, standing) {
  if (plan.rejected_at) return { word: "rejected", tone: "bad", why: "It is never carried out.", open: false };
  if (standing === null) return { word: "–", tone: "plain", why: "", open: false };
  if (plan.policies_sha256 !== standing.policies.sha256) return { word: "of other policies", tone: "plain", why: OTHER, open: false };
  const acting = plan.policies.filter((each) => each.mode !== "preview");
  if (acting.length === 0) return { word: "preview", tone: "plain", why: "Its policies are in mode preview, which never acts.", open: false };
  if (acting.some((each) => each.brake.length > 0)) return { word: "beyond the brake", tone: "bad", why: "Nothing of it is carried out. Change the policy, or its brake, if that is meant.", open: false };
  const own = standing.cleanup.filter((each) => each.plan_id === plan.id && each.mode !== "preview");
  if (own.length === 0) return besides(plan, acting);
  if (own.every((each) => each.acts)) return { word: "may be carried out", tone: "good", why: "Each tag goes when its pending time is over.", open: false };
  const why = [...new Set(own.map((each) => each.text).filter(Boolean))].join("; ");
  const waits = own.some((each) => WAITS.includes(each.refusal));
  if (waits) return { word: "waits for approval", tone: "warn", why, open: true };
  return { word: "does not act", tone: "warn", why, open: plan.approvals.length === 0 };
}

// A plan beside the one that counts. In mode propose each is approved by itself; in mode enforce the newest speaks for all.
function besides(plan, acting) {
  if (acting.every((each) => each.mode === "enforce")) return { word: "an older plan", tone: "plain", why: "The newest plan of its policies counts.", open: false };
  if (plan.approvals.length > 0) return { word: "approved", tone: "plain", why: "Another approved plan of its policies is shown as the one that counts.", open: false };
  return { word: "not approved", tone: "plain", why: "Another plan of its policies counts. This one may be approved as well.", open: true };
}

// Sums over the policies of a plan.
export function totals(plan) {
  const sum = (name) => plan.policies.reduce((all, each) => all + each[name], 0);
  return { delete: sum("delete"), hold: sum("hold"), keep: sum("keep"), freed: plan.freed_bytes };
}
