#!/bin/sh
exec python -m headwater "$@"
