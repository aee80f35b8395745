import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

interface NamedValue {
  name: string;
  value: string;
}

interface Rule {
  users?: string[];
  claim?: NamedValue;
  header?: NamedValue;
  address?: string;
  lane: string;
}

interface Enrolled {
  lane: string;
  since: number;
}

interface EnrolmentRules {
  mode: string;
  self_service: boolean;
  started: Record<string, { rev: number; weight: number }>;
}

interface Split {
  salt: string;
  base: string;
  lanes: { name: string; weight: number }[];
  overrides?: Record<string, string>;
  targeting?: Rule[];
  limits?: Record<string, { max_users?: number }>;
  enrolment?: EnrolmentRules;
}

interface Vector {
  document: string;
  user?: string;
  connection?: string;
  matches?: string[];
  choice?: Enrolled;
  latched?: Enrolled;
  admitted?: Enrolled;
  bucket: number;
  lane: string;
}

interface Golden {
  documents: Record<string, Split>;
  vectors: Vector[];
}

function bucketOf(salt: string, unit: string): number {
  const hash = createHash("sha256").update(salt).update("\0").update(unit).digest();
  return Number((hash.readBigUInt64BE(0) * 10_000n) >> 64n);
}

function laneOf({ base, lanes }: Split, bucket: number): string {
  const [low, high] = lanes;
  if (low && bucket < Math.round(low.weight * 100)) return low.name;
  if (high && bucket >= 10_000 - Math.round(high.weight * 100)) return high.name;
  return base;
}

function keyOf({ claim, header, address }: Rule): string {
  if (claim) return `claim ${claim.name}=${claim.value}`;
  if (header) return `header ${header.name.toLowerCase()}=${header.value}`;
  return `address ${address ?? ""}`;
}

function ruleLane(rules: Rule[], user: string | undefined, matches: string[]): string | undefined {
  const met = (rule: Rule) =>
    rule.users ? user !== undefined && rule.users.includes(user) : matches.includes(keyOf(rule));
  return rules.find(met)?.lane;
}

function enrolledLane({ base, lanes, enrolment }: Split, vector: Vector): string | undefined {
  if (!enrolment) return undefined;
  const { choice, latched = vector.admitted } = vector;
  const present = (row: Enrolled) => row.lane === base || enrolment.started[row.lane]?.rev === row.since;
  if (enrolment.self_service && choice && present(choice)) return choice.lane;
  if (enrolment.mode !== "latched" || !latched || !present(latched)) return undefined;
  return lanes.some(({ name, weight }) => name === latched.lane && weight > 0) ? latched.lane : undefined;
}

function bounded({ base, limits, enrolment }: Split, { latched, admitted }: Vector, lane: string): string {
  if (limits?.[lane]?.max_users === undefined) return lane;
  const since = enrolment?.started[lane]?.rev;
  return [latched, admitted].some((row) => row?.lane === lane && row.since === since) ? lane : base;
}

test("the lane function is the same in every language", () => {
  const golden = JSON.parse(readFileSync("../../tests/golden/lanes.json", "utf8")) as Golden;
  assert.ok(golden.vectors.length >= 200);
  for (const vector of golden.vectors) {
    const split = golden.documents[vector.document];
    assert.ok(split);
    const bucket = bucketOf(split.salt, vector.user ?? vector.connection ?? "");
    const lane =
      split.overrides?.[vector.user ?? ""] ??
      ruleLane(split.targeting ?? [], vector.user, vector.matches ?? []) ??
      enrolledLane(split, vector) ??
      bounded(split, vector, laneOf(split, bucket));
    assert.deepEqual([bucket, lane], [vector.bucket, vector.lane], JSON.stringify(vector));
  }
});
