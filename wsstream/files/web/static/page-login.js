/** Logging in, where the server asks for a token: the page sends it once, and the browser keeps a cookie for it. */

const find = (id) => /** @type {any} */ (document.getElementById(id));

const WRONG = "The server does not know this token.";
const NO_ANSWER = "The server did not answer. Try again.";

/** Asks for the token, while the rest of the page is hidden. */
export class Login {
  #needed;
  /** @type {Promise<void> | null} while the person is asked */
  #asking = null;
  #loggedIn = () => {};

  /** @param {boolean} needed whether the server asks for a token */
  constructor(needed) {
    this.#needed = needed;
    if (!needed) return;
    find("login-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    find("logout").addEventListener("click", async () => {
      const answer = await ask("DELETE");
      if (answer?.ok) location.reload(); // which ends the connections of this page, too
    });
  }

  /** Return once the server knows this browser, or cannot be asked. Asks the person for the token if need be. */
  async check() {
    if (!this.#needed) return;
    if (this.#asking) return this.#asking;
    const answer = await ask("GET");
    if (answer?.ok) find("logout").hidden = false;
    if (answer?.status !== 401) return;
    this.#asking ??= new Promise((resolve) => {
      this.#loggedIn = resolve;
      this.#show(true);
    });
    await this.#asking;
  }

  #show(asked) {
    find("login").hidden = !asked;
    find("main").hidden = asked;
    find("connection").hidden = asked;
    find("logout").hidden = asked;
    find("plain").hidden = isSecureContext;
    if (asked) find("token").focus();
  }

  async #submit() {
    const input = find("token");
    const button = find("login-button");
    if (button.disabled) return;
    button.disabled = true;
    const token = input.value.trim();
    // A header field takes nothing else.
    const answer = /^[!-~]+$/.test(token) ? await ask("POST", token) : { ok: false, status: 401 };
    button.disabled = false;
    if (!answer?.ok) {
      this.#say(answer?.status === 401 ? WRONG : NO_ANSWER);
      return;
    }
    input.value = "";
    this.#say("");
    this.#asking = null;
    this.#show(false);
    find("title").focus(); // the field that had the focus is gone
    this.#loggedIn();
  }

  #say(text) {
    find("login-error").textContent = text;
    find("token").setAttribute("aria-invalid", String(text === WRONG));
    if (text) find("token").select();
  }
}

/**
 * @param {"GET" | "POST" | "DELETE"} method
 * @param {string} [token]
 * @returns {Promise<Response | null>} null without an answer
 */
function ask(method, token) {
  /** @type {Record<string, string>} */
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  return fetch("session", { method, headers, cache: "no-store" }).catch(() => null);
}
