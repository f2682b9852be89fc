/**
 * All of a host that an installation may touch, as lines of text, to be compared before and after. Asks the host, changes nothing.
 */
import { assertEquals } from "@std/assert";
import type { Lab } from "./lab.ts";
import { ask } from "./snapshot.ts";
import { waitFor } from "./wait.ts";

/** What is looked at. */
export type Part = "network" | "files";

const NETWORK = `
ip -o link show | sed 's/^[0-9]*: /link /;s/@if[0-9]*//;s/ qlen [0-9]*//'
ip -o addr show | sed 's/ *valid_lft.*//;s/^[0-9]*: /address /;s/\\\\.*//'
ip -4 route show table all | sed 's/^/route /'
ip -6 route show table all | sed 's/^/route6 /;s/ expires [0-9]*sec//'
ip rule | sed 's/^/rule /'; ip -6 rule | sed 's/^/rule6 /'
nft list ruleset 2>/dev/null | sed 's/^/nft /'
ip netns list | sed 's/^/namespace /'
echo "resolv.conf $(readlink /etc/resolv.conf) $(cat /etc/resolv.conf)"
`;

const FILES = `
find /etc ( -type f -o -type l ) ! -name '*.cache' -printf '%p %m %l\\n' | sort
find /etc -type f ! -name '*.cache' -exec sha256sum {} + | sort
systemctl list-unit-files --no-legend --no-pager | awk '{print "unit", $1, $2}' | sort
systemctl list-units --all --no-legend --no-pager | grep -o 'mobula[^ ]*' | sed 's/^/loaded /'
ls -d /opt/mobula /run/mobula /var/cache/mobula 2>/dev/null
exit 0
`.replace("( -type f -o -type l )", "\\( -type f -o -type l \\)");

/** How long a host that has just booted may take until its network stands still. */
const SETTLE_DEADLINE_MS = 20_000;

/** Takes the picture to be compared with later: of the network, when every IPv6 address has passed its detection of duplicates. */
export async function settledPicture(lab: Lab, host: string, part: Part): Promise<string[]> {
  return await waitFor(`${host}'s ${part} to stand still`, async () => {
    const lines = await picture(lab, host, part);
    const isSettled = lines.some((line) => /inet6 fe80::.* scope link/.test(line)) &&
      !lines.some((line) => line.includes(" tentative"));
    return part === "files" || isSettled ? lines : undefined;
  }, { deadlineMs: SETTLE_DEADLINE_MS, intervalMs: 200 });
}

/** Takes the picture. */
async function picture(lab: Lab, host: string, part: Part): Promise<string[]> {
  const script = `export LC_ALL=C\n${part === "network" ? NETWORK : FILES}`;
  return (await ask(lab, host, ["sh", "-c", script])).split("\n").filter((line) => line !== "");
}

/** Fails unless the host becomes what it was within the time. */
export async function expectAsBefore(
  lab: Lab,
  host: string,
  { part, before, deadlineMs }: {
    readonly part: Part;
    readonly before: readonly string[];
    readonly deadlineMs: number;
  },
): Promise<void> {
  let now: string[] = [];
  await waitFor(`${host}'s ${part} to be as before`, async () => {
    now = await picture(lab, host, part);
    return now.join("\n") === before.join("\n");
  }, { deadlineMs, intervalMs: 500 }).catch(() => assertEquals(now, before, host));
}
