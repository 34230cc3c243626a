// An identity provider: the real better-auth with its jwt plugin, as docs/identity.md sets it up.
// Prints its address, serves until its standard input ends. POST /rotate makes the next token one of a new key.
import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
import { jwt } from "better-auth/plugins";

const algorithm = process.argv[2] ?? "EdDSA";
const tables = { user: [], session: [], account: [], verification: [], jwks: [] };
const server = createServer((request, response) => {
  if (request.method === "POST" && request.url === "/rotate") {
    for (const key of tables.jwks) key.expiresAt = new Date(Date.now() - 1000);
    response.end();
  } else if (request.method === "POST" && request.url === "/promote") {
    for (const user of tables.user) user.roles = ["auditor"];
    response.end();
  } else {
    toNodeHandler(auth)(request, response);
  }
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const baseURL = `http://127.0.0.1:${server.address().port}`;
const auth = betterAuth({
  baseURL,
  secret: "only-for-this-test-0123456789-abcdefghijkl",
  database: memoryAdapter(tables),
  telemetry: { enabled: false },
  rateLimit: { enabled: false },
  emailAndPassword: { enabled: true },
  user: { additionalFields: { roles: { type: "string[]", input: false, required: false } } },
  plugins: [
    jwt({
      jwks: { rotationInterval: 30 * 24 * 3600, gracePeriod: 24 * 3600, keyPairConfig: { alg: algorithm } },
      jwt: { audience: "taskwire", definePayload: ({ user }) => ({ roles: user.roles ?? [] }) },
    }),
  ],
});
console.log(baseURL);
process.stdin.resume().on("end", () => process.exit());
