// judge.mjs FILE: what the Compose specification's schema, which dclint brings, has against a file, a line each; where it has nothing,
// the file as JSON.
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { parse } from 'yaml';

const schema = JSON.parse(readFileSync(new URL('node_modules/dclint/schemas/compose.schema.json', import.meta.url), 'utf8'));
// By an address that Ajv does not know as draft 7's.
delete schema.$schema;
const judge = new Ajv({ allErrors: true, strict: false, validateFormats: false }).compile(schema);
const file = parse(readFileSync(process.argv[2], 'utf8'));
if (judge(file)) {
  console.log(JSON.stringify(file));
} else {
  for (const { instancePath, message, params } of judge.errors) console.error(instancePath, message, JSON.stringify(params));
  process.exit(1);
}
