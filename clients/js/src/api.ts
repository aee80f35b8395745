/** The types of a handler: what it takes and returns. */
export interface MethodTypes {
  params: unknown;
  result: unknown;
}

/** The handlers of a server by their names. `pagewire types --ts` writes such an interface. */
export type ApiMap<Api> = { [Name in keyof Api]: MethodTypes };

/** A page without a map of its handlers: every name, any parameters. */
export interface UntypedApi {}

/** The name of a handler that no map describes; with a map there is none. */
export type UntypedName<Api> = [keyof Api] extends [never] ? string : never;

/** The name of a method of a resident page without its class: what follows the first dot of a name of the map. */
export type ObjectMethod<Api> = MethodOf<keyof Api>;

type MethodOf<Name> = Name extends `${string}.${infer Method}` ? Method : never;

/** The method of the class, or of each class that has one of this name. */
export type ObjectHandler<Api extends ApiMap<Api>, Method extends string> = [keyof Api] extends [never]
  ? MethodTypes
  : {
      [Name in keyof Api]: Name extends `${string}.${infer Own}` ? (Own extends Method ? Api[Name] : never) : never;
    }[keyof Api];

/** What follows the name of a handler: its parameters, which may be missing if it needs none, and options. */
export type Args<Handler extends MethodTypes, Options> = null extends Handler["params"]
  ? [params?: Handler["params"] | undefined, options?: Options]
  : undefined extends Handler["params"]
    ? [params?: Handler["params"], options?: Options]
    : [params: Handler["params"], options?: Options];
