package io.headwater.kernel.files;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.stream.Stream;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordingFile;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.permission.FsPermission;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LocalFilesTest {

  @TempDir Path folder;

  @Test
  void makesFilesAndFoldersAsTheUmaskSaysAndNothingBesides() throws IOException {
    FileSystem files = open();
    Path file = folder.resolve("a/b/file");
    byte[] bytes = "bytes".getBytes(StandardCharsets.UTF_8);
    try (var out = files.create(hadoop(file))) {
      out.write(bytes);
    }
    assertArrayEquals(bytes, Files.readAllBytes(file));
    assertEquals("rw-r-----", mode(file));
    assertEquals("rwxr-x---", mode(file.getParent()));
    try (Stream<Path> there = Files.list(file.getParent())) {
      assertEquals(1, there.count());
    }
  }

  @Test
  void setsPermissions() throws IOException {
    Path file = Files.createFile(folder.resolve("file"));
    open().setPermission(hadoop(file), new FsPermission("604"));
    assertEquals("rw----r--", mode(file));
  }

  @Test
  void startsNoProcess() throws IOException {
    FileSystem files = open();
    Path recorded = folder.resolve("recording.jfr");
    try (Recording recording = new Recording()) {
      recording.enable("jdk.ProcessStart");
      recording.start();
      files.create(hadoop(folder.resolve("a/file"))).close();
      files.rename(hadoop(folder.resolve("a/file")), hadoop(folder.resolve("moved")));
      recording.stop();
      recording.dump(recorded);
    }
    assertEquals(List.of(), RecordingFile.readAllEvents(recorded));
    assertTrue(Files.exists(folder.resolve("moved")));
  }

  private static FileSystem open() throws IOException {
    Configuration conf = new Configuration();
    conf.set("fs.file.impl", LocalFiles.class.getName());
    conf.set("fs.permissions.umask-mode", "027");
    return assertInstanceOf(LocalFiles.class, FileSystem.newInstance(URI.create("file:///"), conf));
  }

  private static org.apache.hadoop.fs.Path hadoop(Path path) {
    return new org.apache.hadoop.fs.Path(path.toUri());
  }

  private static String mode(Path path) throws IOException {
    return PosixFilePermissions.toString(Files.getPosixFilePermissions(path));
  }
}
