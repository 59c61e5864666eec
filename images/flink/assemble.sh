#!/bin/sh
# assemble.sh ENV CHECKOUT HOME: lays Flink out below HOME, from the distribution in the environment
# ENV and the jars that Maven has put below CHECKOUT.
set -eu
env=$1 checkout=$2 home=$3
dist=$(echo "$env"/lib/python3*/site-packages/pyflink)
mkdir -p "$home/log" "$home/conf" "$home/plugins/s3-fs-hadoop"
cp -r "$dist/bin" "$dist/opt" "$home/"
cp -r "$dist/lib" "$home/"
for plugin in metrics-prometheus external-resource-gpu; do
  if [ -d "$dist/plugins/$plugin" ]; then cp -r "$dist/plugins/$plugin" "$home/plugins/"; fi
done
cp "$dist"/conf/log4j*.properties "$home/conf/"
cp "$checkout"/build/jars/flink/*.jar "$checkout"/build/jars/flink-cluster/*.jar "$home/lib/"
cp "$checkout"/flink_jobs/kernel/target/headwater-kernel-*.jar "$home/lib/"
cp "$checkout"/build/jars/flink-s3/*.jar "$home/plugins/s3-fs-hadoop/"
# One name whatever the version: the chart's jarURI.
jar=$(echo "$home"/opt/flink-python-*.jar)
mv "$jar" "$home/opt/flink-python.jar"
# PyFlink brings its own copy of all this; once is enough.
rm -rf "$dist/lib" "$dist/opt" "$dist/plugins" "$dist/bin" "$dist/examples"
ln -s "$home/lib" "$dist/lib"
ln -s "$home/opt" "$dist/opt"
ln -s "$home/plugins" "$dist/plugins"
ln -s "$home/bin" "$dist/bin"
chmod 0555 "$home"/bin/*.sh
install -m 0555 "$checkout/images/flink/entrypoint.sh" "$(dirname "$env")/entrypoint.sh"
