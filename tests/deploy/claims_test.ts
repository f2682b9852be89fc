/** Whose WireGuard key is whose. */
import { assertEquals, assertMatch } from "@std/assert";
import { type Claim, falseClaims, type OtherKey } from "../../lib/deploy/claims.ts";
import { keyOf } from "../net/fixtures.ts";

const [A, B, C, D] = [keyOf(1), keyOf(2), keyOf(3), keyOf(4)];

function claim(id: number, claimed: readonly string[], more: Partial<Claim> = {}): Claim {
  return { id, hostname: `web${id}`, claimed, ...more };
}

for (
  const [what, claims, others, wrong] of [
    ["keys of their own", [claim(2, [A]), claim(3, [B, C], { recorded: B })], [], {}],
    ["the key of a host of an earlier push", [claim(2, [B]), claim(3, [B, C], { recorded: B })], [], {
      2: /it belongs to host web3/,
    }],
    ["the next key of another one", [claim(2, [A, C]), claim(3, [B, C], { recorded: B })], [], {
      2: /host web3 says that it is its own/,
      3: /host web2 says that it is its own/,
    }],
    ["the key of a host that is left out", [claim(2, [D])], [{ publicKey: D, owner: "host web9" }], {
      2: /it belongs to host web9/,
    }],
    ["a client's key", [claim(2, [A, D])], [{ publicKey: D, owner: "client 10.30.128.1" }], {
      2: /it belongs to client 10\.30\.128\.1/,
    }],
    ["another key than the pinned one", [claim(2, [A], { pinned: B })], [], {
      2: /hosts\.yml has another one/,
    }],
    ["somebody's pinned key", [claim(2, [B]), claim(3, [B], { pinned: B })], [], {
      2: /it belongs to host web3/,
    }],
    ["two new hosts, one key", [claim(2, [A]), claim(3, [A]), claim(4, [B])], [], {
      2: /host web3 says/,
      3: /host web2 says/,
    }],
    // Its address went to a new host: the file still has its key there.
    ["a host with another address", [claim(2, [A]), claim(3, [B], { recorded: A })], [], {}],
  ] as readonly (readonly [string, Claim[], OtherKey[], Record<number, RegExp>])[]
) {
  Deno.test(`falseClaims: ${what}`, () => {
    const found = falseClaims(claims, others);
    assertEquals([...found.keys()].map(String).sort(), Object.keys(wrong));
    for (const [id, message] of found) assertMatch(message, wrong[id]!);
  });
}
