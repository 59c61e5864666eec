/** The local file system as Iceberg sees it through Hadoop. */
package io.headwater.kernel.files;
