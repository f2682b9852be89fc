/**
 * The program that gives the network card its addresses where mobula cannot run: run for real, in a network namespace with links that
 * software made. Needs root.
 */
import { assertEquals, assertMatch } from "@std/assert";
import type { Baseline } from "../../lib/facts.ts";
import { GIVEN_BACK_FILE, renderRestoreNic } from "../../lib/render/restore_nic.ts";
import { baselineOf } from "../net/fixtures.ts";

const MAC = "52:54:00:12:34:56";
const CARD: Baseline = {
  ...baselineOf("198.51.100.2"),
  interface: "net0",
  mac: MAC,
  mtu: 1400,
  addresses: ["198.51.100.2/24", "198.51.100.77/32", "2001:db8::2/64"],
  routes: [
    { family: "inet", destination: "default", via: "203.0.113.1", onlink: true },
    { family: "inet", destination: "203.0.113.1/32" },
    { family: "inet6", destination: "default", via: "2001:db8::1" },
  ],
  rules: [
    { family: "inet", priority: 0, words: "from all lookup local" },
    { family: "inet", priority: 1000, words: "from 198.51.100.77 lookup 100" },
  ],
  tableRoutes: [{ family: "inet", table: "100", destination: "default", via: "198.51.100.1" }],
};

/** The links, then the program, then what was asked for; all in namespaces that end with it. */
async function restore(setup: string, { card = CARD, argument = "", ask = "" } = {}) {
  const script = `set -eu
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount --bind /dev/null /dev/console
${setup}
cat >/run/restore-nic
code=0
sh /run/restore-nic ${argument} || code=$?
echo "code $code"
[ ! -e ${GIVEN_BACK_FILE} ] || echo given back
${ask}`;
  const child = new Deno.Command("unshare", {
    args: ["--net", "--mount", "sh", "-c", script],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(renderRestoreNic(card).content));
  await writer.close();
  const { stdout, stderr } = await child.output();
  const [said, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes).trim());
  return { said: said!, error: error! };
}

const link = (name: string, mac = MAC) => `ip link add ${name} address ${mac} type veth peer name end`;

Deno.test("restore-nic: the card gets its MTU, addresses, routes and rules", async () => {
  const ask = `ip -o addr show dev net0 | awk '{ print $4 }'; cat /sys/class/net/net0/mtu
ip -o route show; ip -o route show table 100; ip -6 -o route show default; ip rule show priority 1000; ip rule show priority 0`;
  const { said, error } = await restore(link("net0"), { ask });
  for (
    const part of [
      "code 0\ngiven back\n",
      "198.51.100.2/24",
      "198.51.100.77/32",
      "2001:db8::2/64",
      "\n1400\n",
      "default via 203.0.113.1 dev net0",
      "default via 198.51.100.1 dev net0",
      "default via 2001:db8::1 dev net0",
      "1000:\tfrom 198.51.100.77 lookup 100",
    ]
  ) assertEquals([part, said.includes(part)], [part, true], `${said}\n${error}`);
  assertEquals(said.match(/^0:.*lookup local/gm)?.length, 1, said);
  assertMatch(error, /mobula cannot run: net0 gets the addresses that it had before mobula/);
});

Deno.test("restore-nic: a card under another name is found by its MAC, and gets its own name", async () => {
  const { said } = await restore(
    `${link("other")}
ip link add cover address ${MAC} type bridge; ip link set other master cover`,
    {
      ask: "ip -4 -o addr show dev net0 | awk '{ print $4 }'",
    },
  );
  assertEquals(said, "code 0\ngiven back\n198.51.100.2/24\n198.51.100.77/32");
});

Deno.test("restore-nic: a card that software made is found by its name, with whatever MAC", async () => {
  const { said } = await restore(link("net0", "52:54:00:00:00:99"), { ask: "ip -4 -o addr show | wc -l" });
  assertEquals(said, "code 0\ngiven back\n2");
});

Deno.test("restore-nic: a name that a shell would take apart is one word", async () => {
  const name = "a'b$(id)";
  const { said, error } = await restore(link(`"a'b\\$(id)"`), {
    card: { ...CARD, interface: name },
    ask: "ip -4 -o addr show | wc -l",
  });
  assertEquals(said, "code 0\ngiven back\n2", error);
});

for (
  const [what, setup] of [
    ["has an address", `${link("net0")}; ip addr add 192.0.2.1/24 dev net0`],
    ["is not there", link("net1", "52:54:00:00:00:99")],
    ["is there as a bridge alone", `ip link add net1 address ${MAC} type bridge`],
  ] as const
) {
  Deno.test(`restore-nic: nothing is done where the card ${what}`, async () => {
    const before = await restore(setup, { argument: "needed", ask: "ip -o addr show | wc -l" });
    assertEquals(await restore(setup, { ask: "ip -o addr show | wc -l" }), before);
    assertMatch(before.said, /^code 1\n\d+$/);
  });
}

Deno.test("restore-nic: asked whether it is needed, it changes nothing", async () => {
  const { said } = await restore(link("net0"), { argument: "needed", ask: "ip -o addr show | wc -l" });
  assertEquals(said, "code 0\n0");
});
