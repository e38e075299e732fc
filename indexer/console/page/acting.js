// What changes something: offered to those who may, behind a question that says what will happen.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./ui.js";
import { learnRights, mayAsk, Refused, Unreachable, useIdentity } from "./api.js";
import { visible } from "./format.js";
import { announce } from "./parts.js";

export function useMayAct() {
  return useIdentity()?.kind === "operator";
}

// may(repository, kind): whether a job of the kind may be asked for there, by an operator token or the registry's rights.
// It says no until the server has said yes.
export function useMay(repositories) {
  const who = useIdentity();
  const [, again] = useState(0);
  const names = [...new Set(repositories)].sort().join(" ");
  useEffect(() => {
    if (who?.kind !== "user" || !names) return undefined;
    let shown = true;
    learnRights(names.split(" ")).then(() => shown && again((count) => count + 1));
    return () => {
      shown = false;
    };
  }, [names, who?.kind, who?.name]);
  return mayAsk;
}

// For everybody else: why there is no button. `right`: what of the registry's rights would do, too.
export function OperatorsOnly({ what, right }) {
  const who = useIdentity();
  if (who?.kind === "operator") return null;
  const without = right ? "Your sign-in has neither." : "You are signed in without one.";
  return html`<p class="note operators">${what} takes an operator token (<code>INDEXER_OPERATOR_TOKENS</code>)${right ? `, or the registry's right to ${right} in the repository` : ""}. ${who ? without : "You are not signed in."}</p>`;
}

// A button that asks first. fields: { name, label, hint?, required?, value? }. `work` gets what was entered; while it is
// refused, the question stays open and says why. `said`: what a screen reader hears when it is done.
export function Act({ label, name, title, words, fields = [], confirm, danger = false, work, done = () => {}, said }) {
  const [open, setOpen] = useState(false);
  const question = { title, words, fields, confirm, danger, work, done, said, close: () => setOpen(false) };
  return html`<button type="button" aria-haspopup="dialog" aria-label=${name} onClick=${() => setOpen(true)}>${label}</button>${open && html`<${Question} ...${question} />`}`;
}

// The headers of what is asked for once. Asked again with the same words after an answer was lost, it gives the same job.
export function useOnce() {
  const asked = useRef({ words: "", key: "" });
  return {
    headers: (words) => {
      if (asked.current.words !== words) asked.current = { words, key: oneTime() };
      return { "Idempotency-Key": asked.current.key };
    },
    done: () => {
      asked.current = { words: "", key: "" };
    },
  };
}

function oneTime() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function Question({ title, words, fields, confirm, danger, work, done, said, close }) {
  const dialog = useRef(null);
  const [values, setValues] = useState(() => Object.fromEntries(fields.map((field) => [field.name, field.value || ""])));
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  useLayoutEffect(() => dialog.current.showModal(), []);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const result = await work(Object.fromEntries(Object.entries(values).map(([key, value]) => [key, value.trim()])));
      dialog.current?.close();
      announce(said);
      done(result);
    } catch (refused) {
      setError(refused);
      setBusy(false);
    }
  };
  const enter = (field) => (input) => setValues({ ...values, [field.name]: input.target.value });
  return html`<dialog ref=${dialog} aria-labelledby="question" onClose=${close}><form onSubmit=${submit}>
    <h2 id="question">${title}</h2>
    <p>${words}</p>
    ${fields.map((field) => html`<label class="field" for=${`question-${field.name}`}><span>${field.label}${field.required ? "" : " (optional)"}</span>
      <input id=${`question-${field.name}`} type="text" autocomplete="off" autocapitalize="none" maxlength="1000" placeholder=${field.hint || ""} required=${field.required} value=${values[field.name]} onInput=${enter(field)} aria-invalid=${error?.parameter === field.name ? "true" : undefined} /></label>`)}
    ${error && html`<p class="wrong" role="alert">${refusal(error)}</p>`}
    <div class="actions"><button type="button" onClick=${() => dialog.current.close()}>Do nothing</button><button type="submit" class=${danger ? "danger" : "primary"} disabled=${busy}>${busy ? "Asking …" : confirm}</button></div>
  </form></dialog>`;
}

function refusal(error) {
  if (error instanceof Unreachable) return "The indexer does not answer. It may have been done all the same: look before you ask again.";
  if (!(error instanceof Refused)) return visible(error.message);
  if (error.status === 401) return "Your sign-in does not count any more. Sign in again.";
  return visible(error.allowed ? `${error.message} (accepted: ${error.allowed})` : error.message);
}
