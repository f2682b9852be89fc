/**
 * What the facts of a host may be. Texts are plain by then, and only printed or compared; what is counted with has a range. Pure.
 */
import * as z from "zod";
import { HostError } from "../errors.ts";
import type { HostFacts, HostStateFile } from "../facts.ts";
import "../zod_english.ts";

const text = z.string().max(1000);
const texts = z.array(text).max(100_000);
const port = z.int().min(1).max(65_535);
const cidr = z.string().regex(/^[0-9.]{7,15}\/\d{1,2}$/, "expected an IPv4 address with its prefix");

const STATE: z.ZodType<HostStateFile> = z.object({
  schema: z.literal(1),
  status: z.enum(["installing", "installed"]),
  phase: text,
  since: text,
  generation: z.int().min(0).max(1e9),
});

const FACTS: z.ZodType<HostFacts> = z.object({
  osId: text,
  osIdLike: texts,
  osVersion: text,
  osName: text,
  architecture: text,
  kernel: text,
  systemd: z.boolean(),
  root: z.boolean(),
  hostname: text,
  freeMiB: z.int().min(0),
  sshPort: port,
  sshListeners: texts,
  externalInterface: z.string().regex(/^[^\s/]{1,15}$/, "expected the name of an interface").optional(),
  externalMtu: z.int().min(68).max(65_535).optional(),
  defaultGateway: text.optional(),
  addresses: z.array(z.object({ interface: text, address: cidr })).max(100_000),
  accessBridge: text.optional(),
  routes: texts,
  executableHash: z.string().regex(/^[0-9a-f]{64}$/, "expected a SHA-256 hash").optional(),
  state: STATE.optional(),
  clock: z.int().min(0).max(1e12),
  wireguardPortUser: text,
  lacks: z.object({
    modules: texts,
    kernels: texts,
    container: z.boolean(),
    tun: z.boolean(),
    wireguardGo: z.boolean(),
  }).optional(),
  services: z.array(z.object({
    protocol: z.enum(["tcp", "udp"]),
    port,
    program: text.optional(),
    reach: z.enum(["all", "address", "ipv6"]),
  })).max(200_000),
  servicesUnrecorded: z.boolean().optional(),
});

/** Whether the content of a state file is one that mobula has written. */
export function isState(state: unknown): state is HostStateFile {
  return STATE.safeParse(state).success;
}

/** The same facts; a HostError names what cannot be true of any host. */
export function checkFacts(host: string, facts: HostFacts): HostFacts {
  const checked = FACTS.safeParse(facts);
  if (checked.success) return checked.data;
  throw new HostError(
    `${host}: Cannot look at host: it tells what cannot be (${z.prettifyError(checked.error)}); ` +
      "expected facts of a Linux host. Look at what answers its SSH",
  );
}
