// What Debian 12's Node.js 18 lacks of what oidc-provider calls. Imported first; newer versions are left alone.
import * as crypto from 'node:crypto';
import { register } from 'node:module';

globalThis.crypto ??= crypto.webcrypto;
URL.parse ??= (text, base) => { try { return new URL(text, base); } catch { return null; } };

if (!crypto.hash) {
  // A built-in module's exports cannot be added to, so oidc-provider gets another one in its place.
  const inline = (text) => `data:text/javascript,${encodeURIComponent(text)}`;
  const instead = inline(`
    export * from 'node:crypto';
    import { createHash } from 'node:crypto';
    export const hash = (algorithm, data, encoding = 'hex') => {
      const digest = createHash(algorithm).update(data).digest();
      return encoding === 'buffer' ? digest : digest.toString(encoding);
    };`);
  register(inline(`
    export const resolve = (specifier, context, next) =>
      specifier === 'node:crypto' && context.parentURL?.includes('/node_modules/oidc-provider/')
        ? { url: ${JSON.stringify(instead)}, shortCircuit: true }
        : next(specifier, context);`));
}
