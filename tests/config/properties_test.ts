/** No string passes that could become more than the one word it is. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import { parseFleet } from "../../lib/config/parse_fleet.ts";
import { ConfigError } from "../../lib/errors.ts";
import type { Fleet } from "../../lib/fleet.ts";

const KEY = "2jT2ySbIKKLVJdbTfKrKYOxHohNQehTPRqaoz4mX6j8=";
const NAME = /^[A-Za-z\d]([A-Za-z\d.-]{0,251}[A-Za-z\d])?$/;

/** Texts likely to be nearly right: random ones, and good ones with something bad in or around them. */
function hostile(good: string): fc.Arbitrary<string> {
  const bad = fc.oneof(
    fc.constantFrom(
      "\n",
      "\r",
      " ",
      "\t",
      "\0",
      ";",
      "$(id)",
      "`id`",
      "'",
      '"',
      "\\",
      "#",
      "-",
      "%",
      "\u2028",
      "\u202e",
    ),
    fc.string({ unit: "binary", maxLength: 4 }),
  );
  const spoiled = fc.tuple(fc.nat(good.length), bad).map(([at, text]) =>
    good.slice(0, at) + text + good.slice(at)
  );
  return fc.oneof(
    spoiled,
    fc.string({ unit: "binary" }),
    fc.string(),
    fc.domain(),
    fc.ipV4(),
    fc.constant(good),
  );
}

function attempt(hosts: unknown, extraHosts: unknown = null, extraWires: unknown = null): Fleet | undefined {
  // JSON is YAML.
  const source = (file: string, value: unknown) => ({ file, text: JSON.stringify(value) ?? "" });
  try {
    return parseFleet({
      hostsYml: source("hosts.yml", hosts),
      extraHostsYml: source("extra_hosts.yml", extraHosts),
      extraWiresYml: source("extra_wires.yml", extraWires),
    });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const { file, path, message } of error.problems) {
      assertMatch(`${file}${path}${message}`, /^[^\p{C}\p{Zl}\p{Zp}]+$/u);
    }
    return undefined;
  }
}

function inventory(address: string, settings: Record<string, unknown>): unknown {
  return { all: { hosts: { [address]: { host_id: 2, hostname: "alpha", ...settings } } } };
}

/** Every accepted value is exactly the given one, and strict. */
function checkSetting(name: string, good: string, strict: RegExp, read: (fleet: Fleet) => unknown): void {
  Deno.test(`parseFleet: any text as ${name} is refused or a plain word`, () => {
    let accepted = 0;
    fc.assert(
      fc.property(hostile(good), (text) => {
        const fleet = attempt(inventory("198.51.100.2", { [name]: text }));
        if (!fleet) return;
        accepted++;
        assertEquals(read(fleet), text);
        assertMatch(text, strict);
      }),
      { numRuns: 500 },
    );
    assert(accepted > 0);
  });
}

checkSetting("hostname", "beta.example.com", NAME, (fleet) => fleet.hosts[0]?.hostname);
checkSetting("ansible_host", "beta.example.com", /^[\w:][\w.:%-]*$/, (fleet) => fleet.hosts[0]?.ssh.host);
checkSetting("ansible_user", "admin", /^\w[\w.-]*$/, (fleet) => fleet.hosts[0]?.ssh.user);
checkSetting(
  "ansible_ssh_private_key_file",
  "~/.ssh/id_ed25519",
  /^[\w.~/][\w.~/+@,=:-]*$/,
  (fleet) => fleet.hosts[0]?.ssh.identityFile,
);

Deno.test("parseFleet: any text as external address is refused or an address", () => {
  fc.assert(fc.property(hostile("198.51.100.2"), (text) => {
    const fleet = attempt(inventory(text, {}));
    if (fleet) assertMatch(fleet.hosts[0]?.address ?? "", /^(\d{1,3}\.){3}\d{1,3}$/);
  }));
});

Deno.test("parseFleet: any texts as extra host and client are refused or plain words", () => {
  const texts = fc.tuple(
    hostile("10.31.200.1"),
    hostile("wiki.example.com"),
    hostile("10.30.128.1/32"),
    hostile(KEY),
  );
  fc.assert(fc.property(texts, ([address, name, wire, key]) => {
    const hosts = inventory("198.51.100.2", {});
    const extra = attempt(hosts, { extra_hosts: { [address]: name } })?.extraHosts[0];
    if (extra) {
      assertMatch(extra.address, /^10\.31\.\d{1,3}\.\d{1,3}$/);
      assertMatch(extra.hostname, NAME);
    }
    const client = attempt(hosts, null, { extra_wires: { [wire]: key } })?.extraWires[0];
    if (client) {
      assertMatch(client.address, /^10\.30\.\d{1,3}\.\d{1,3}$/);
      assertMatch(client.publicKey, /^[A-Za-z0-9+/]{43}=$/);
    }
  }));
});

Deno.test("parseFleet: any value in any place is a ConfigError at worst", () => {
  const key = fc.oneof(
    fc.constantFrom("all", "hosts", "vars", "children", "host_id", "hostname", "wireguard", "public_key"),
    fc.constantFrom(
      "mobula_access",
      "mobula_mtu",
      "ansible_host",
      "198.51.100.2",
      "__proto__",
      "constructor",
    ),
    fc.string({ maxLength: 5 }),
  );
  const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
    tree: fc.oneof(
      { maxDepth: 7, withCrossShrink: true },
      fc.oneof(
        fc.anything({ maxDepth: 1 }),
        fc.integer(),
        fc.string(),
        fc.constantFrom(null, "alpha", "keep", KEY),
      ),
      fc.dictionary(key, tie("tree"), { maxKeys: 4 }),
      fc.dictionary(key, tie("tree"), { maxKeys: 4 }),
    ),
  }));
  fc.assert(
    fc.property(tree, tree, tree, (hosts, extraHosts, extraWires) => {
      attempt({ all: hosts }, { extra_hosts: extraHosts }, { extra_wires: extraWires });
      attempt(hosts, extraHosts, extraWires);
    }),
    { numRuns: 300 },
  );
});

Deno.test("parseFleet: any text as a file is a ConfigError at worst", () => {
  const pieces = fc.array(
    fc.constantFrom(
      "all",
      ":",
      " ",
      "\n",
      "  ",
      "- ",
      "&a ",
      "*a",
      "<<: ",
      "{",
      "}",
      "[",
      "]",
      "? ",
      "!!",
      "|",
      "\t",
      "'",
      '"',
      "1",
    ),
    { maxLength: 30 },
  );
  fc.assert(
    fc.property(fc.oneof(pieces.map((parts) => parts.join("")), fc.string({ unit: "binary" })), (text) => {
      try {
        parseFleet({ hostsYml: { file: "hosts.yml", text } });
      } catch (error) {
        assert(error instanceof ConfigError, String(error));
      }
    }),
    { numRuns: 1000 },
  );
});
