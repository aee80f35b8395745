// The check of a value against a schema. Pure.

import { Fail } from "./errors.js";
import type { JsonSchema, JsonType } from "./types.js";

const CHECKED = new Set(
  (
    "type enum const anyOf properties required additionalProperties items " +
    "minItems maxItems minLength maxLength pattern minimum maximum"
  ).split(" "),
);
const ANNOTATIONS = new Set("title description default examples deprecated format $schema $id $comment".split(" "));

/** Throws a `TypeError` if a schema has a keyword that is not checked. */
export function verify(schema: JsonSchema, where = "schema"): void {
  if (typeof schema !== "object" || schema === null) throw new TypeError(`${where} is an object`);
  for (const keyword of Object.keys(schema)) {
    if (CHECKED.has(keyword) || ANNOTATIONS.has(keyword)) continue;
    throw new TypeError(`the keyword \`${keyword}\` of ${where} is not supported: check it in the handler`);
  }
  if (schema.pattern !== undefined) new RegExp(schema.pattern, "u");
  const { additionalProperties: more, items, properties = {}, anyOf = [] } = schema;
  if (typeof more === "object") verify(more, `${where}.additionalProperties`);
  if (items) verify(items, `${where}.items`);
  for (const [name, below] of Object.entries(properties)) verify(below, `${where}.properties.${name}`);
  anyOf.forEach((below, index) => verify(below, `${where}.anyOf[${index}]`));
}

/** Returns the parameters if the schema accepts them. `null` is no parameters, where an object is expected. */
export function accept(schema: JsonSchema, params: unknown): unknown {
  const value = params === null && schema.type === "object" ? {} : params;
  const found = problem(schema, value, "");
  if (found !== undefined) throw new Fail("malformed", found);
  return value;
}

/** Returns why a schema does not accept a value. */
function problem(schema: JsonSchema, value: unknown, where: string): string | undefined {
  const fits =
    (schema.type === undefined || [schema.type].flat().some((type) => isOf(type as JsonType, value))) &&
    (schema.enum === undefined || schema.enum.some((one) => same(one, value))) &&
    (!("const" in schema) || same(schema.const, value)) &&
    (schema.anyOf === undefined || schema.anyOf.some((one) => problem(one, value, where) === undefined));
  if (!fits) return `${named(where)}: expected ${expected(schema)}, got ${shown(value)}`;
  if (typeof value === "string") return ofText(schema, value, where);
  if (typeof value === "number") return ofNumber(schema, value, where);
  if (Array.isArray(value)) return ofArray(schema, value, where);
  return isObject(value) ? ofObject(schema, value, where) : undefined;
}

function ofText(schema: JsonSchema, value: string, where: string): string | undefined {
  const { minLength = 0, maxLength = Infinity, pattern } = schema;
  // code points, as JSON Schema counts; iterating is only needed between the two lengths
  const length = value.length < minLength || value.length <= maxLength ? value.length : [...value].length;
  if (length < minLength) return `${named(where)} has at least ${minLength} characters`;
  if (length > maxLength) return `${named(where)} has at most ${maxLength} characters`;
  const matches = pattern === undefined || new RegExp(pattern, "u").test(value);
  return matches ? undefined : `${named(where)} does not match ${pattern}`;
}

function ofNumber(schema: JsonSchema, value: number, where: string): string | undefined {
  const { minimum = -Infinity, maximum = Infinity } = schema;
  if (value < minimum) return `${named(where)} is at least ${minimum}, not ${value}`;
  return value > maximum ? `${named(where)} is at most ${maximum}, not ${value}` : undefined;
}

function ofArray(schema: JsonSchema, value: readonly unknown[], where: string): string | undefined {
  const { minItems = 0, maxItems = Infinity, items } = schema;
  if (value.length < minItems) return `${named(where)} has at least ${minItems} items`;
  if (value.length > maxItems) return `${named(where)} has at most ${maxItems} items`;
  return items && first(value.entries(), ([index, item]) => problem(items, item, `${where}[${index}]`));
}

function ofObject(schema: JsonSchema, value: Record<string, unknown>, where: string): string | undefined {
  const { properties = {}, required = [], additionalProperties: more = true } = schema;
  const below = (name: string): string => (where ? `${where}.${name}` : name);
  const missing = required.find((name) => !Object.hasOwn(value, name));
  if (missing !== undefined) {
    const known = Object.hasOwn(properties, missing) ? properties[missing] : undefined;
    return `${named(below(missing))} is missing${known ? `: expected ${expected(known)}` : ""}`;
  }
  return first(Object.entries(value), ([name, item]) => {
    const known = Object.hasOwn(properties, name) ? properties[name] : more;
    if (known === false) return `there is no parameter ${named(below(name))}`;
    return typeof known === "object" ? problem(known, item, below(name)) : undefined;
  });
}

function first<Item>(items: Iterable<Item>, find: (item: Item) => string | undefined): string | undefined {
  for (const item of items) {
    const found = find(item);
    if (found !== undefined) return found;
  }
  return undefined;
}

function isOf(type: JsonType, value: unknown): boolean {
  switch (type) {
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "object":
      return isObject(value);
    case "integer":
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function same(one: unknown, other: unknown): boolean {
  return one === other || (isJson(one) && isJson(other) && JSON.stringify(one) === JSON.stringify(other));
}

function isJson(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

function expected(schema: JsonSchema): string {
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (schema.anyOf) return schema.anyOf.map(expected).join(" or ");
  const types = schema.type === undefined ? [] : [schema.type].flat();
  return (
    types.map((type) => (type === "null" ? type : `${/^[aio]/.test(type) ? "an" : "a"} ${type}`)).join(" or ") ||
    "a value"
  );
}

function named(where: string): string {
  return `\`${where || "params"}\``;
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return "an array";
  if (isObject(value)) return "an object";
  const text = JSON.stringify(value) ?? "nothing";
  const short = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  return typeof value === "string" ? `the text ${short}` : short;
}
