// Where oidc-provider keeps what it issued: in memory, unbounded (its own holds 1000 entries), and open to the switchboard.

const kept = new Map(); // "Model:id" -> payload

export class Store {
  constructor(model) { this.model = model; }
  #key(id) { return `${this.model}:${id}`; }

  async upsert(id, payload, expiresIn) {
    kept.set(this.#key(id), { ...payload, until: expiresIn ? Date.now() + expiresIn * 1000 : Infinity });
  }
  async find(id) {
    const found = kept.get(this.#key(id));
    if (!found || found.until < Date.now()) return undefined;
    const { until, ...payload } = found;
    return payload;
  }
  async findByUid(uid) { return this.#findBy((payload) => payload.uid === uid); }
  async findByUserCode(code) { return this.#findBy((payload) => payload.userCode === code); }
  #findBy(fits) {
    for (const [key, payload] of kept) {
      if (key.startsWith(`${this.model}:`) && fits(payload)) return this.find(key.slice(this.model.length + 1));
    }
    return undefined;
  }
  async destroy(id) { kept.delete(this.#key(id)); }
  async consume(id) { kept.get(this.#key(id)).consumed = Math.floor(Date.now() / 1000); }
  async revokeByGrantId(grantId) {
    // What a browser has under way is no token of the grant.
    const ofGrant = ([key, payload]) => payload.grantId === grantId && !key.startsWith('Interaction:');
    for (const [key] of [...kept].filter(ofGrant)) kept.delete(key);
  }
}

/** Registers a client, over the one of the same name: its next request meets the new metadata. */
export const registerClient = (metadata) => new Store('Client').upsert(metadata.client_id, metadata);

/** Ends every browser's session, as an administrator does. */
export function endSessions() {
  for (const key of [...kept.keys()]) if (key.startsWith('Session:')) kept.delete(key);
}

/** Whether a login's grant still stands, and how many refresh tokens of it were used up. */
export function grantState(grantId) {
  const tokens = [...kept].filter(([key, { grantId: of }]) => key.startsWith('RefreshToken:') && of === grantId);
  return {
    alive: kept.has(`Grant:${grantId}`),
    refresh_tokens: tokens.length,
    consumed: tokens.filter(([, { consumed }]) => consumed).length,
  };
}
