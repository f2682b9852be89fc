/**
 * What a push would do, for people and for programs. Pure.
 */
import { bold, cyan, dim, green, red, yellow } from "@std/fmt/colors";
import { createTwoFilesPatch } from "diff";
import { cutServices } from "../deploy/preflight.ts";
import type { PushResult } from "../deploy/push.ts";
import type { HostRun } from "../deploy/run.ts";
import type { FileChange, HostPreview } from "../host/preview.ts";
import type { Step } from "../step.ts";
import { plainText } from "../plain.ts";
import { withoutHost } from "./progress.ts";

/** Whether nothing is to be done on the host. */
export function isEmpty(preview: HostPreview): boolean {
  const { packages, files, steps, sendsExecutable, newGeneration, reboots } = preview;
  return [packages, files, steps].every((list) => list.length === 0) &&
    !sendsExecutable && !newGeneration && !reboots;
}

/** The plans of all hosts, as text. */
export function renderPlan({ push }: PushResult): string {
  const waiting = push.hosts.filter(({ preview }) => preview && !isEmpty(preview)).length;
  const failed = push.hosts.filter(({ failure }) => failure).length;
  const verdict = waiting > 0
    ? yellow(`Changes wait on ${waiting} of ${push.hosts.length} hosts; "mobula push" makes them.`)
    : failed === 0
    ? green("Nothing to do: every host is as wanted.")
    : "";
  const rotation = push.fleet.keepKeys
    ? []
    : [dim("A push also makes new WireGuard keys, unless mobula_keys: keep or --keep-keys.")];
  const unknown = push.hosts.some(({ preview }) => preview && preview.sendsExecutable === undefined)
    ? [dim("Started from source: a push makes the executable first, and sends it where it is another one.")]
    : [];
  return ["", ...push.hosts.map(renderHost), "", ...unknown, ...rotation, verdict].join("\n").trimEnd();
}

function renderHost({ host, failure, preview, notes }: HostRun): string {
  const title = `${bold(host.hostname)} (id ${host.id})`;
  const warnings = notes.map((note) => `\n    ${yellow("note:")} ${note}`).join("");
  if (failure) {
    const message = withoutHost(host.hostname, failure.message).replaceAll("\n", "\n    ");
    return `  ${red("✗")} ${title} failed in ${failure.phase}:\n    ${message}${warnings}`;
  }
  if (!preview) return `  ${red("✗")} ${title}: not looked at${warnings}`;
  if (isEmpty(preview)) return `  ${green("✓")} ${title}: nothing to do${warnings}`;
  return [`  ${yellow("~")} ${title}:${warnings}`, ...renderChanges(preview)].join("\n");
}

function renderChanges(preview: HostPreview): string[] {
  const { packages, files, steps, sendsExecutable, newGeneration, reboots } = preview;
  return [
    ...(sendsExecutable ? [renderStep({ title: "send the executable" })] : []),
    ...(packages.length === 0 ? [] : [renderStep({ title: `install ${packages.join(", ")}` })]),
    ...(newGeneration ? [renderStep({ title: "write a new generation" })] : []),
    ...files.map((file) => renderFile(file)),
    ...steps.map(renderStep),
    ...(reboots ? [renderStep({ title: "reboot the host", effect: REBOOT_EFFECT })] : []),
  ];
}

/** What traffic feels of the reboot that ends an installation. */
const REBOOT_EFFECT = "all of the host's traffic, until it is back";

function renderStep({ title, effect }: Pick<Step, "title" | "effect">): string {
  return `    ${title}${effect ? yellow(`  [${effect}]`) : dim("  [none]")}`;
}

/** A new file is named, a changed one is shown as a unified difference. */
function renderFile({ path, before, after }: FileChange): string {
  if (before === undefined) return `    write ${path}${dim("  [none]")}`;
  const patch = createTwoFilesPatch(path, path, before, after ?? "", "", "", { context: 1 });
  const lines = plainText(patch).split("\n").slice(4).filter((line) => line !== "" && !line.startsWith("\\"));
  const coloured = lines.map((line) =>
    `      ${
      line.startsWith("+")
        ? green(line)
        : line.startsWith("-")
        ? red(line)
        : line.startsWith("@")
        ? cyan(line)
        : line
    }`
  );
  return [`    ${after === undefined ? "remove" : "change"} ${path}${dim("  [none]")}`, ...coloured].join(
    "\n",
  );
}

/** The same for programs. */
export function planJson({ push }: PushResult, exitCode: number): unknown {
  return {
    exit_code: exitCode,
    hosts: push.hosts.map(({ host, facts, failure, preview, notes }) => ({
      hostname: host.hostname,
      id: host.id,
      address: host.address,
      error: failure?.message ?? null,
      notes,
      unreachable_services: facts ? cutServices(host, facts) : [],
      capabilities: preview?.capabilities ?? null,
      send_executable: preview?.sendsExecutable ?? null,
      packages: preview?.packages ?? [],
      new_generation: preview?.newGeneration ?? false,
      files: preview?.files.map(({ path, before, after }) => ({
        path,
        before: before ?? null,
        after: after ?? null,
      })) ?? [],
      steps: preview?.steps.map(({ title, argv, namespace, effect }) => ({
        title,
        argv,
        namespace: namespace ?? null,
        effect: effect ?? "none",
      })) ?? [],
      reboot: preview?.reboots ?? false,
    })),
  };
}
