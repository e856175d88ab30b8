"""openai_sdk.py BASE: a question to a model by OpenAI's SDK. Tells what the error says."""
import json
import sys

import openai

client = openai.OpenAI(api_key="unused", base_url=sys.argv[1], max_retries=0)
try:
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
    print(json.dumps({}))
except openai.APIStatusError as error:
    print(json.dumps({"status": error.status_code, "code": error.code, "message": error.message}))
