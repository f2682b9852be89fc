/** Which facts a host may tell. */
import { assertEquals, assertThrows } from "@std/assert";
import { checkFacts } from "../../lib/deploy/facts_schema.ts";
import { parseLook } from "../../lib/deploy/look.ts";
import { HostError } from "../../lib/errors.ts";

const LOOKS = new URL("look/", import.meta.url);

Deno.test("checkFacts: what real hosts told stays as it is", () => {
  const names = [...Deno.readDirSync(LOOKS)].map(({ name }) => name).filter((name) => name.endsWith(".txt"));
  assertEquals(names.length > 5, true);
  for (const name of names) {
    const facts = parseLook(Deno.readTextFileSync(new URL(name, LOOKS)));
    assertEquals(checkFacts("alpha", facts), facts, name);
  }
});

const debian = Deno.readTextFileSync(new URL("debian12.txt", LOOKS));

/** The line that is told in place of the true one, and the field that is named. */
const LIES = [
  ["ssh-port=0", "sshPort"],
  ["ssh-port=22; reboot", "sshPort"],
  ["ssh-port=65536", "sshPort"],
  ["clock=-1", "clock"],
  ["clock=tomorrow", "clock"],
  ["clock=1e400", "clock"],
  ["free-kib=lots", "freeMiB"],
  ["external-link=2: ens3: <UP> mtu 12 qdisc", "externalMtu"],
  ["external-link=2: ens3: <UP> mtu 99999999 qdisc", "externalMtu"],
  ["executable=../../etc/passwd", "executableHash"],
  ["default-route=default via 198.51.100.1 dev ../../../etc/passwd", "externalInterface"],
  [`hostname=${"a".repeat(2000)}`, "hostname"],
] as const;

for (const [line, field] of LIES) {
  Deno.test(`checkFacts: refuses ${line.slice(0, 60)}`, () => {
    const key = line.slice(0, line.indexOf("=") + 1);
    const told = [
      ...debian.split("\n").filter((one) => !one.startsWith(key) && one !== "mobula-look-end=1"),
      line,
    ];
    const error = assertThrows(() => checkFacts("alpha", parseLook(told.join("\n"))), HostError, "alpha: ");
    assertEquals(error.message.includes(`at ${field}`), true, error.message);
  });
}

Deno.test("checkFacts: a state that mobula never wrote counts as an installation that was cut off", () => {
  for (
    const state of [
      '{"schema":1,"status":"installed","generation":-1}',
      '{"schema":1,"status":"installed"}',
      "[]",
    ]
  ) {
    const facts = parseLook(`mobula-look=1\n[state]\n ${state}\n`);
    assertEquals(facts.state?.status, "installing", state);
  }
});
