// Signing in: by a token, or by the registry's own user and password.
import { html, useEffect, useState } from "../ui.js";
import { go } from "../address.js";
import { Refused, signInWithPassword, signInWithToken, Unreachable, whatIsOffered } from "../api.js";
import { visible } from "../format.js";
import { Heading } from "../parts.js";

export default function SignIn({ place }) {
  const [offered, setOffered] = useState({ passwords: false, anonymous_read: false });
  useEffect(() => {
    whatIsOffered().then(setOffered, () => {});
  }, []);
  const then = place.query.get("then") || "/";
  const done = () => go(`#${then.startsWith("/") ? then : "/"}`);
  return html`<${Heading}>Sign in<//>
    <div class="sign-in">
      ${offered.anonymous_read && html`<p class="note">Reading needs no sign-in here.</p>`}
      ${offered.passwords && html`<${ByPassword} done=${done} />`}
      <${ByToken} done=${done} />
      <p class="hint">What you enter stays in the memory of this page. A reload, or closing it, forgets it.</p>
    </div>`;
}

function ByToken({ done }) {
  const [token, setToken] = useState("");
  const send = useSending(() => signInWithToken(token.trim()), done);
  return html`<form class="card" onSubmit=${send.submit}>
    <h2>With a token</h2>
    <p>One of <code>INDEXER_API_TOKENS</code> or <code>INDEXER_OPERATOR_TOKENS</code>.</p>
    <label class="field" for="token"><span>Token</span><input id="token" type="password" autocomplete="off" required value=${token} onInput=${(input) => setToken(input.target.value)} /></label>
    <${Sending} of=${send} />
  </form>`;
}

function ByPassword({ done }) {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const send = useSending(() => signInWithPassword(name, password), done);
  return html`<form class="card" onSubmit=${send.submit}>
    <h2>With your account of the registry</h2>
    <p>The same user and password as for <code>docker login</code>. You see what the registry lets you pull.</p>
    <label class="field" for="user"><span>User</span><input id="user" type="text" autocomplete="username" autocapitalize="none" spellcheck=${false} required value=${name} onInput=${(input) => setName(input.target.value)} /></label>
    <label class="field" for="password"><span>Password or access token</span><input id="password" type="password" autocomplete="current-password" required value=${password} onInput=${(input) => setPassword(input.target.value)} /></label>
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
