package io.headwater.kernel.files;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Set;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RawLocalFileSystem;
import org.apache.hadoop.fs.permission.FsPermission;

/**
 * Hadoop's local file system, without a process for each file it makes.
 *
 * <p>Where Hadoop's native library is not installed, Hadoop sets a file's permissions by running
 * {@code chmod}: four times for each file, with the one that holds its checksums. A job that writes
 * tables of many days starts some hundred processes a second so, and half of a small machine is
 * busy with them. Java sets permissions itself; checksum files are not written, as those who read
 * the tables without Hadoop never looked at them.
 *
 * <p>In use where Flink's configuration says {@code flink.hadoop.fs.file.impl:
 * io.headwater.kernel.files.LocalFiles}.
 */
public final class LocalFiles extends RawLocalFileSystem {

  @Override
  public void setPermission(Path path, FsPermission permission) throws IOException {
    Set<PosixFilePermission> posix =
        PosixFilePermissions.fromString(
            permission.getUserAction().SYMBOL
                + permission.getGroupAction().SYMBOL
                + permission.getOtherAction().SYMBOL);
    Files.setPosixFilePermissions(pathToFile(path).toPath(), posix);
  }
}
