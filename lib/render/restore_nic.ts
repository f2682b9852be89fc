/**
 * A program that gives the network card the addresses and routes that it had before mobula, for a boot at which mobula itself cannot
 * run. Pure.
 */
import type { Baseline } from "../facts.ts";
import { baselineSteps } from "../net/down.ts";
import { BIN_DIR } from "../net/steps.ts";
import type { WantedFile } from "../step.ts";
import { HEADER } from "./header.ts";

/** Tells that the card was given back in this boot, and why; no repair takes it again. */
export const GIVEN_BACK_FILE = "/run/mobula/given-back";

/** Its program; with "needed" it only says, by its exit code, whether the card stands there without an address. */
export const RESTORE_NIC = `${BIN_DIR}/restore-nic`;

/**
 * Nothing but a shell and `ip`. A card that is in the gateway, or has an address, is left alone; so is one that is not there (yet). What
 * stands upon a card often has its MAC.
 */
export function renderRestoreNic(baseline: Baseline): WantedFile {
  const { interface: name, mac } = baseline;
  const words = baselineSteps(baseline).map(({ argv }) => argv.slice(1));
  const lines = (lists: readonly (readonly string[])[]) =>
    lists.map((list) => `${list.join(" ")}\n`).join("");
  // A batch is of one family.
  const isV6 = ([first]: readonly string[]) => first === "-6";
  const content = `#!/bin/sh
${HEADER}
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
set -eu
own=${quoted(name)}
found=
for link in /sys/class/net/*; do
  name=\${link##*/}
  case $name in mo-* | ovsbr-* | veth_fac0) continue ;; esac
  [ ! -e "$link/bridge" ] && [ ! -e "$link/bonding" ] && [ ! -e "/proc/net/vlan/$name" ] || continue
  { read -r address <"$link/address"; } 2>/dev/null || continue
  [ "$address" = ${quoted(mac)} ] || continue
  [ -n "$found" ] && [ "$name" != "$own" ] || found=$name
done
# One that software made may have another address after each boot.
[ -n "$found" ] || [ ! -e "/sys/class/net/$own" ] || [ -e "/sys/class/net/$own/device" ] || found=$own
[ -n "$found" ] && [ -z "$(ip -4 -o address show dev "$found" scope global)" ] || exit 1
[ "\${1:-}" != needed ] || exit 0
reason="mobula cannot run: $found gets the addresses that it had before mobula, until the next boot or push"
echo "$reason" >&2
{ echo "mobula: $reason" >/dev/console; } 2>/dev/null || :
[ -d ${RUN} ] || mkdir -p ${RUN}
[ "$found" = "$own" ] || ip link set dev "$found" down name "$own"
ip -force -batch - <<'LINES' || :
${lines(words.filter((list) => !isV6(list)))}LINES
ip -6 -force -batch - <<'LINES' || :
${lines(words.filter(isV6).map((list) => list.slice(1)))}LINES
echo "$reason" >${GIVEN_BACK_FILE}
`;
  return { path: RESTORE_NIC, content, mode: 0o755 };
}

const RUN = GIVEN_BACK_FILE.slice(0, GIVEN_BACK_FILE.lastIndexOf("/"));

/** One word of a shell's. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
