/**
 * What the running kernel can do. Loads modules, and makes links in a namespace that ends with the script.
 */
import type { Capabilities } from "../facts.ts";
import type { Runner } from "../step.ts";
import { runStep } from "./run_steps.ts";

/**
 * Tries the kernel's WireGuard, Open vSwitch and geneve in a namespace that ends with the script. The result holds for this boot, until a
 * module is installed; `$1` = `anew` ignores it.
 */
const PROBE_SCRIPT = `memory=/run/mobula/kernel
read -r release </proc/sys/kernel/osrelease
if [ "$1" != anew ] && [ -s $memory ] && ! [ "/lib/modules/$release/modules.dep" -nt $memory ]; then
  while read -r line; do echo "$line"; done <$memory
  exit
fi
probe() {
  modprobe -qa wireguard openvswitch geneve
  unshare -n sh -c '
    ip -force -batch - <<LINKS
link add mo-probe type wireguard
link add mo-probe2 type geneve id 1 remote 192.0.2.1
LINKS
    while read -r name _; do
      case $name in mo-probe:*) echo wireguard ;; mo-probe2:*) echo geneve ;; esac
    done </proc/net/dev
  '
  [ ! -e /sys/module/openvswitch ] || echo openvswitch
  echo probed
}
[ -d /run/mobula ] || mkdir -p /run/mobula
probe 2>/dev/null >$memory.new
mv $memory.new $memory
while read -r line; do echo "$line"; done <$memory
`;

/** What the kernel can do; it holds for this boot, until a module is installed. HostError where it cannot be tried. */
export async function probeKernel(
  runner: Runner,
  { anew }: { readonly anew: boolean },
): Promise<Capabilities> {
  const output = await runStep(runner, {
    title: "probe the kernel",
    argv: ["sh", "-s", anew ? "anew" : ""],
    stdin: PROBE_SCRIPT,
  });
  const found = new Set(output.split("\n"));
  return {
    wireguard: found.has("wireguard") ? "kernel" : "userspace",
    datapath: found.has("openvswitch") && found.has("geneve") ? "system" : "netdev",
  };
}
