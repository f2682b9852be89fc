/**
 * Says how the last activation went. Reads files only, but that it may give an armed host more time.
 */
import type { Capabilities } from "../facts.ts";
import { type Context, readJson, readState } from "./context.ts";
import { ACTIVATION_FILE, CAPABILITIES_FILE } from "./paths.ts";
import type { StatusRequest, StatusResult } from "./protocol.ts";
import type { Activation } from "./up.ts";

/** After a boot the activation counts as running until mobula.service has said otherwise. */
export async function status(request: StatusRequest, context: Context): Promise<StatusResult> {
  const { runner } = context;
  const activation = await readActivation(request, context);
  const [capabilities, state, bootId] = await Promise.all([
    readJson<Capabilities>(runner, CAPABILITIES_FILE),
    readState(runner),
    readBootId({ runner }),
  ]);
  if (activation?.status === "done" && request.extendSeconds) {
    const { extend } = await import("./armed.ts");
    await extend(request.extendSeconds, context);
  }
  return {
    generation: state?.generation ?? 0,
    activation: activation?.status ?? "running",
    capabilities: capabilities ?? { wireguard: "userspace", datapath: "netdev" },
    bootId,
    ...(activation?.error ? { error: activation.error } : {}),
    ...(activation?.cut ? { cut: true } : {}),
  };
}

/** Milliseconds between two looks at an activation that is under way. */
const INTERVAL = 25;

/** How the activation went; one that is under way is waited for. */
async function readActivation(
  { waitMilliseconds = 0, untilCut = false }: StatusRequest,
  { runner, clock }: Pick<Context, "runner" | "clock">,
): Promise<Activation | undefined> {
  const deadline = clock.now() + waitMilliseconds;
  while (true) {
    const activation = await readJson<Activation>(runner, ACTIVATION_FILE);
    const isRunning = (activation?.status ?? "running") === "running";
    if (!isRunning || untilCut && activation?.cut || clock.now() + INTERVAL > deadline) return activation;
    await clock.pause(INTERVAL);
  }
}

/**
 * A word that differs after every boot. A container shares the kernel's boot id with its neighbours, so the start time of its
 * first process is part of it.
 */
export async function readBootId({ runner }: Pick<Context, "runner">): Promise<string> {
  const [boot, init] = await Promise.all([
    runner.readFile("/proc/sys/kernel/random/boot_id"),
    runner.readFile("/proc/1/stat"),
  ]);
  // Field 22 (proc(5)); the second field, the name in parentheses, may hold spaces.
  const started = init?.slice(init.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  return `${boot?.trim() ?? ""}-${started}`;
}
