// Signing in by a token.
import { html, useState } from "../ui.js";
import { go } from "../address.js";
import { Refused, signInWithToken, Unreachable } from "../api.js";
import { visible } from "../format.js";
import { Heading } from "../parts.js";

export default function SignIn({ place }) {
  const then = place.query.get("then") || "/";
  const done = () => go(`#${then.startsWith("/") ? then : "/"}`);
  return html`<${Heading}>Sign in<//>
    <div class="sign-in">
      <${ByToken} done=${done} />
      <p class="hint">What you enter stays in the memory of this page. A reload, or closing it, forgets it.</p>
    </div>`;
}

function ByToken({ done }) {
  const [token, setToken] = useState("");
  const send = useSending(() => signInWithToken(token.trim()), done);
  return html`<form class="card" onSubmit=${send.submit}>
    <h2>With a token</h2>
    <p>One of <code>INDEXER_API_TOKENS</code>.</p>
    <label class="field" for="token"><span>Token</span><input id="token" type="password" autocomplete="off" required value=${token} onInput=${(input) => setToken(input.target.value)} /></label>
    <${Sending} of=${send} />
  </form>`;
}

function useSending(work, done) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError("");
    try {
      await work();
      done();
    } catch (refused) {
      setError(words(refused));
      setBusy(false);
    }
  };
  return { submit, busy, error };
}

function words(error) {
  if (error instanceof Unreachable) return "The indexer does not answer. Try again.";
  if (error instanceof Refused && error.status === 401) return "This is not accepted. Check what you entered.";
  if (error instanceof Refused && error.status === 429) return "Too many attempts. Wait a minute, then try again.";
  return visible(error.message);
}

function Sending({ of }) {
  return html`${of.error && html`<p class="wrong" role="alert">${of.error}</p>`}
    <button type="submit" class="primary" disabled=${of.busy}>${of.busy ? "Asking …" : "Sign in"}</button>`;
}
