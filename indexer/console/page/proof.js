// The proof that an entry is in the signed log (RFC 9162, 2.1.3), checked here: the server's word is not taken for it.
import { html, useState } from "./ui.js";
import { get, Refused, text } from "./api.js";
import { number, visible } from "./format.js";
import { Badge } from "./parts.js";

export function Proof({ position }) {
  const [state, setState] = useState(null);
  if (position === null) return html`<p class="note">It can be proved once it is sealed and a checkpoint is signed.</p>`;
  const prove = async () => {
    setState({ busy: true });
    try {
      setState(await proved(position));
    } catch (error) {
      const early = error instanceof Refused && error.code === "not_provable";
      setState({ words: early ? "No checkpoint covers this entry yet. Try again after the next one." : visible(error.message) });
    }
  };
  return html`<div class="proof">
    <button type="button" onClick=${prove} disabled=${state?.busy}>Prove that it is in the log</button>
    <div role="status">${state && !state.busy && html`<p>${state.good !== undefined && html`<${Badge} tone=${state.good ? "good" : "bad"}>${state.good ? "proved" : "not proved"}<//> `}${state.words}</p>`}
    ${state?.note && html`<pre class="wrap"><bdi>${visible(state.note).replaceAll("⟨U+000A⟩", "\n")}</bdi></pre>`}</div>
  </div>`;
}

async function proved(position) {
  if (!globalThis.crypto?.subtle) return { words: "This browser checks proofs only over HTTPS. Use indexer audit verify." };
  const note = await text("audit/checkpoint");
  const [, size, root] = note.split("\n");
  const proof = await get("audit/proof/inclusion", { position, size });
  const found = await rootOf(proof);
  const good = encode(found) === root && Number(size) === proof.size && proof.leaf_index === position - 1;
  const words = good
    ? `Its leaf hash and ${number(proof.hashes.length)} hashes lead to the root of the signed checkpoint of ${number(proof.size)} entries. The signature, and that the entry has this leaf hash, are checked by indexer audit verify.`
    : "The hashes do not lead to the root of the checkpoint. Run indexer audit verify.";
  return { good, words, note };
}

// The algorithm of RFC 9162, 2.1.3.2. Indices stay below 2^53, so they are divided and not shifted.
export async function rootOf({ leaf_index: leaf, size, leaf_hash: start, hashes }) {
  let index = leaf;
  let last = size - 1;
  let root = decode(start);
  for (const each of hashes.map(decode)) {
    if (last === 0) throw new Error("the proof is too long");
    if (index % 2 === 1 || index === last) {
      root = await node(each, root);
      while (index % 2 === 0 && index !== 0) {
        index = Math.floor(index / 2);
        last = Math.floor(last / 2);
      }
    } else {
      root = await node(root, each);
    }
    index = Math.floor(index / 2);
    last = Math.floor(last / 2);
  }
  if (last !== 0) throw new Error("the proof is too short");
  return root;
}

async function node(left, right) {
  const both = new Uint8Array(1 + left.length + right.length);
  both[0] = 1;
  both.set(left, 1);
  both.set(right, 1 + left.length);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", both));
}

function decode(text64) {
  return Uint8Array.from(atob(text64), (character) => character.charCodeAt(0));
}

function encode(value) {
  return btoa(String.fromCharCode(...value));
}
