"""Runs commands of model-signing, each a line of JSON, and answers each with its exit status and output.

Its command line signs whole files alone, so "shards" stands for what its library does with parts of files.
"""

import json
import sys

import click
import click.testing
import model_signing
import model_signing._cli


@click.group()
def shards():
    pass


@shards.command()
@click.argument("model")
@click.argument("signature")
@click.argument("private_key")
def sign(model, signature, private_key):
    hashing = model_signing.hashing.Config().use_shard_serialization(shard_size=4)
    hashing.set_ignored_paths(paths=[signature])
    config = model_signing.signing.Config().use_elliptic_key_signer(private_key=private_key)
    config.set_hashing_config(hashing).sign(model, signature)


@shards.command()
@click.argument("model")
@click.argument("signature")
@click.argument("public_key")
def verify(model, signature, public_key):
    config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    config.verify(model, signature)


model_signing._cli.main.add_command(shards)

for line in sys.stdin:
    result = click.testing.CliRunner().invoke(model_signing._cli.main, json.loads(line))
    output = result.output + str(result.exception or "")
    print(json.dumps({"status": result.exit_code, "output": output}), flush=True)
